//! Children that die with their parent, and their private run directory.
