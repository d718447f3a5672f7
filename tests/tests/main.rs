//! End-to-end tests: the real binary, driven over HTTP and from its command line.
