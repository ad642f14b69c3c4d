/* A disk that fails when it is told to: preloaded, it stands before the C library's calls that change files under one
 * folder, counts them, and at the n-th of them refuses, tears the write, or ends the process as a power cut would.
 *
 * It may keep a journal of what has not been synced, so that tests/recovery/power_cut.py can take it back. Maps are out of
 * its reach: faulty_writable_maps counts the shared writable ones (SQLite's index of its log, -shm, is rebuilt after a
 * crash and does not count). Syncs are told and not carried out: what lasts is what the journal says.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { NOTHING, REFUSE, TEAR, END_BEFORE, END_AFTER };
enum kind { LOOK = 1, OPEN = 2, WRITE = 4, SYNC = 8, TRUNCATE = 16, RENAME = 32, REMOVE = 64, MAKE = 128 };

#define TRACED 8192
#define DIRTY 256
#define ENDED 77

static char root[PATH_MAX], journal[PATH_MAX], trace[TRACED][160];
static enum action action;
static long target, calls, maps, lasting, kinds;
static int fault, log_fd = -1;
static ino_t dirty[DIRTY];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_known(ino_t inode, int add);

/* What a test calls. */

void faulty_root(const char *folder) { snprintf(root, sizeof root, "%s", folder); }

/* lasting: every call from the n-th on; kinds: only calls of these are counted. */
void faulty_arm(int what, long nth, int error, int lasts, int of_kinds) {
  action = what, target = nth, fault = error, lasting = lasts, kinds = of_kinds, calls = 0;
}

long faulty_calls(void) { return calls; }
long faulty_writable_maps(void) { return maps; }
const char *faulty_call(long nth) { return nth < TRACED ? trace[nth] : ""; }

/* From here on whatever lies under the root counts as synced but for what the journal there tells; NULL ends it. */
void faulty_journal(const char *folder) {
  char path[PATH_MAX + 8];
  if (log_fd >= 0) syscall(SYS_close, log_fd);
  memset(dirty, 0, sizeof dirty);
  log_fd = -1;
  if (!folder) return;
  snprintf(journal, sizeof journal, "%s", folder);
  snprintf(path, sizeof path, "%s/log", folder);
  log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* A file that an earlier process of this journal has written and not synced. */
void faulty_unsynced(unsigned long inode) { is_known(inode, 1); }

/* Which calls it is about. */

static int is_ours(const char *path) {
  size_t n = strlen(root);
  return n && !strncmp(path, root, n) && (path[n] == '/' || !path[n]);
}

static int is_rebuilt(const char *path) {
  size_t n = strlen(path);
  return n > 4 && !strcmp(path + n - 4, "-shm");
}

static void path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  long n = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  path[n > 0 ? n : 0] = 0;
}

static void path_at(int folder, const char *name, char *path) {
  if (*name == '/' || folder == AT_FDCWD) { snprintf(path, PATH_MAX, "%s", name); return; }
  path_of(folder, path);
  size_t n = strlen(path);
  snprintf(path + n, PATH_MAX - n, "/%s", name);
}

static enum action verdict(const char *name, const char *path, enum kind kind) {
  if (!is_ours(path) || (kinds && !(kinds & kind))) return NOTHING;
  pthread_mutex_lock(&lock);
  long nth = ++calls;
  if (nth < TRACED) snprintf(trace[nth], sizeof trace[nth], "%s %.140s", name, path[strlen(root)] ? path + strlen(root) + 1 : ".");
  pthread_mutex_unlock(&lock);
  return nth == target || (lasting && nth > target) ? action : NOTHING;
}

static int refused(void) { errno = fault; return -1; }

/* Evaluates ``call`` unless this is where it is to fail; for calls that are done wholly or not at all. */
#define WHOLE(name, path, kind, keep, call) do { \
    enum action what = verdict(name, path, kind); \
    if (what == END_BEFORE) _exit(ENDED); \
    if (what == REFUSE || what == TEAR) return refused(); \
    if (is_ours(path)) { keep; } \
    long done = (call); \
    if (what == END_AFTER) _exit(ENDED); \
    return done; \
  } while (0)

/* The journal: a line for each event, and a copy of each file as it was when last synced. */

static void note(const char *format, ...) {
  char line[3 * PATH_MAX];
  va_list rest;
  va_start(rest, format);
  int n = vsnprintf(line, sizeof line, format, rest);
  va_end(rest);
  if (log_fd >= 0) syscall(SYS_write, log_fd, line, n);
}

static void copy(int from, int to) {
  static char block[65536], zeros[65536];
  off_t at = 0;
  for (long n; (n = syscall(SYS_pread64, from, block, sizeof block, at)) > 0; at += n)
    if (memcmp(block, zeros, n)) syscall(SYS_pwrite64, to, block, n, at);
  syscall(SYS_ftruncate, to, at);
}

static int is_known(ino_t inode, int add) {
  for (int i = 0; i < DIRTY; i++) {
    if (dirty[i] == inode) return 1;
    if (!dirty[i]) { if (add) dirty[i] = inode; return 0; }
  }
  _exit(78);
}

/* Keeps the file as it is now, if that is what was synced. */
static void keep_image(const char *path, int empty) {
  struct stat is;
  char image[PATH_MAX + 32];
  if (log_fd < 0 || is_rebuilt(path) || stat(path, &is) || !S_ISREG(is.st_mode)) return;
  pthread_mutex_lock(&lock);
  if (!is_known(is.st_ino, 1) || empty) {
    snprintf(image, sizeof image, "%s/%lu", journal, (unsigned long)is.st_ino);
    int to = syscall(SYS_openat, AT_FDCWD, image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int from = empty ? -1 : syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (from >= 0) { copy(from, to); syscall(SYS_close, from); }
    syscall(SYS_close, to);
    note("written\t%lu\n", (unsigned long)is.st_ino);
  }
  pthread_mutex_unlock(&lock);
}

static void keep_image_of(int fd) {
  char path[PATH_MAX];
  path_of(fd, path);
  keep_image(path, 0);
}

/* Keeps a name that is about to go. */
static void keep_link(const char *event, const char *path, const char *new_path) {
  static int number;
  char kept[PATH_MAX + 32] = "";
  const char *going = *new_path ? new_path : path;
  if (log_fd < 0 || is_rebuilt(path)) return;
  if (!access(going, F_OK)) {
    snprintf(kept, sizeof kept, "%s/kept-%d-%d", journal, (int)getpid(), number++);
    if (syscall(SYS_linkat, AT_FDCWD, going, AT_FDCWD, kept, 0)) *kept = 0;
  }
  note("%s\t%s\t%s\t%s\n", event, path, new_path, kept);
}

static int synced(int fd) {
  struct stat is;
  char path[PATH_MAX];
  path_of(fd, path);
  if (log_fd < 0 || fstat(fd, &is)) return 0;
  if (S_ISDIR(is.st_mode)) { note("folder\t%s\n", path); return 0; }
  pthread_mutex_lock(&lock);
  note("synced\t%lu\n", (unsigned long)is.st_ino);
  int last = 0;
  while (last < DIRTY && dirty[last]) last++;
  for (int i = 0; i < last; i++)
    if (dirty[i] == is.st_ino) { dirty[i] = dirty[last - 1]; dirty[last - 1] = 0; break; }
  pthread_mutex_unlock(&lock);
  return 0;
}

/* The calls. */

static int opened(int folder, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  path_at(folder, name, path);
  int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
  enum action what = verdict("open", path, writes ? OPEN : LOOK);
  if (what == END_BEFORE) _exit(ENDED);
  if (what == REFUSE || what == TEAR) return refused();
  int ours = is_ours(path), made = ours && (flags & O_CREAT) && access(path, F_OK);
  if (ours && !made && (flags & O_TRUNC)) keep_image(path, 0);
  int fd = syscall(SYS_openat, folder, name, flags, mode);
  if (made && fd >= 0 && !is_rebuilt(path)) { note("made\t%s\n", path); keep_image(path, 1); }
  if (what == END_AFTER) _exit(ENDED);
  return fd;
}

#define MODE(flags, mode) mode_t mode = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }

int open(const char *path, int flags, ...) { MODE(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags, mode) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags, mode) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags, mode) return opened(at, path, flags, mode); }

static ssize_t written(int fd, const void *bytes, size_t n, off_t at, int is_placed) {
  char path[PATH_MAX];
  path_of(fd, path);
  enum action what = verdict("write", path, WRITE);
  if (what == END_BEFORE) _exit(ENDED);
  if (what == REFUSE) return refused();
  if (is_ours(path)) keep_image(path, 0);
  if (what == TEAR || what == END_AFTER) n /= 2;
  long done = is_placed ? syscall(SYS_pwrite64, fd, bytes, n, at) : syscall(SYS_write, fd, bytes, n);
  if (what == END_AFTER) _exit(ENDED);
  return what == TEAR ? refused() : done;
}

ssize_t write(int fd, const void *bytes, size_t n) { return written(fd, bytes, n, 0, 0); }
ssize_t pwrite(int fd, const void *bytes, size_t n, off_t at) { return written(fd, bytes, n, at, 1); }
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) { return written(fd, bytes, n, at, 1); }

ssize_t writev(int fd, const struct iovec *parts, int n) {
  char path[PATH_MAX];
  path_of(fd, path);
  WHOLE("writev", path, WRITE, keep_image(path, 0), syscall(SYS_writev, fd, parts, n));
}

int fsync(int fd) {
  char path[PATH_MAX];
  path_of(fd, path);
  WHOLE("fsync", path, SYNC, (void)0, is_ours(path) ? synced(fd) : syscall(SYS_fsync, fd));
}

int fdatasync(int fd) {
  char path[PATH_MAX];
  path_of(fd, path);
  WHOLE("fdatasync", path, SYNC, (void)0, is_ours(path) ? synced(fd) : syscall(SYS_fdatasync, fd));
}

int ftruncate(int fd, off_t size) {
  char path[PATH_MAX];
  path_of(fd, path);
  WHOLE("ftruncate", path, TRUNCATE, keep_image_of(fd), syscall(SYS_ftruncate, fd, size));
}

int truncate(const char *path, off_t size) {
  WHOLE("truncate", path, TRUNCATE, keep_image(path, 0), syscall(SYS_truncate, path, size));
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }
int truncate64(const char *path, off64_t size) { return truncate(path, size); }

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  char path[PATH_MAX], new_path[PATH_MAX];
  path_at(from_folder, from, path), path_at(to_folder, to, new_path);
  WHOLE("rename", new_path, RENAME, keep_link("renamed", path, new_path),
        syscall(SYS_renameat, from_folder, from, to_folder, to));
}

int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  path_at(folder, name, path);
  WHOLE("unlink", path, REMOVE, keep_link(flags & AT_REMOVEDIR ? "folder-removed" : "removed", path, ""),
        syscall(SYS_unlinkat, folder, name, flags));
}

int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
  char path[PATH_MAX];
  path_at(folder, name, path);
  WHOLE("mkdir", path, MAKE, if (access(path, F_OK)) note("folder-made\t%s\n", path),
        syscall(SYS_mkdirat, folder, name, mode));
}

int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

void *mmap64(void *where, size_t n, int access, int flags, int fd, off64_t at) {
  if (fd >= 0 && (access & PROT_WRITE) && (flags & MAP_SHARED)) {
    char path[PATH_MAX];
    path_of(fd, path);
    maps += is_ours(path) && !is_rebuilt(path);
  }
  return (void *)syscall(SYS_mmap, where, n, access, flags, fd, at);
}

void *mmap(void *where, size_t n, int access, int flags, int fd, off_t at) {
  return mmap64(where, n, access, flags, fd, at);
}

/* Streams: the C library's own writes do not pass here, so the file counts as written from fopen to fclose. */

FILE *fopen(const char *path, const char *mode) {
  FILE *(*real)(const char *, const char *) = (FILE *(*)(const char *, const char *))dlsym(RTLD_NEXT, "fopen");
  if (*mode == 'r' || !is_ours(path)) return real(path, mode);
  int fd = opened(AT_FDCWD, path, O_WRONLY | O_CREAT | (*mode == 'w' ? O_TRUNC : O_APPEND), 0666);
  if (fd < 0) return NULL;
  keep_image(path, 0);
  return fdopen(fd, mode);
}

FILE *fopen64(const char *path, const char *mode) { return fopen(path, mode); }

size_t fwrite(const void *bytes, size_t size, size_t n, FILE *stream) {
  static size_t (*real)(const void *, size_t, size_t, FILE *);
  if (!real) real = (size_t(*)(const void *, size_t, size_t, FILE *))dlsym(RTLD_NEXT, "fwrite");
  char path[PATH_MAX];
  path_of(fileno(stream), path);
  enum action what = verdict("fwrite", path, WRITE);
  if (what == END_BEFORE) _exit(ENDED);
  if (what == NOTHING) return real(bytes, size, n, stream);
  if (what != REFUSE) { real(bytes, size, n / 2, stream); fflush(stream); }
  if (what == END_AFTER) _exit(ENDED);
  errno = fault;
  return what == REFUSE ? 0 : n / 2;
}
