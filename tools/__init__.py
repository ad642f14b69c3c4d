"""Run by hand, seldom: what makes files that the project ships."""
