"""One path into the store, whichever way items come."""
