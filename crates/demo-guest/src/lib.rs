//! Loco Town: the demo guest's logic and, bare-metal, the guest itself.
