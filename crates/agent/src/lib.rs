//! The process beside one guest: guest and media behind HTTP.
