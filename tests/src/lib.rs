//! What needs several crates: local grid, faults, a browser.
