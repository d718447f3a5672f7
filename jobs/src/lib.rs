//! The queue of jobs: claims, leases, retries, the loop of a worker.
