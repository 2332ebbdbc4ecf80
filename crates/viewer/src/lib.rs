//! The window: grid, overlay, sound out, keyboard and pointer.
