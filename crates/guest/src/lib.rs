//! One QEMU: profile, command line, QMP, display, sound, input, snapshots.
