//! Links the bare-metal program by its own linker script; the library needs none of this.

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=link.ld");
    if var("CARGO_FEATURE_BARE").is_err() {
        return;
    }
    if var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") || var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        println!("cargo::error=the bare-metal guest is built for x86_64-unknown-linux-gnu only: add --target");
        return;
    }
    let folder = var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = format!("-Wl,-T,{folder}/link.ld");
    let arguments = [
        "-nostdlib",
        "-nostartfiles",
        "-static",
        "-no-pie",
        &script,
        "-Wl,--build-id=none",
        "-Wl,-z,norelro",
        "-Wl,-z,max-page-size=4096",
        "-Wl,--no-eh-frame-hdr",
    ];
    for argument in arguments {
        println!("cargo::rustc-link-arg-bin=loco-demo-guest={argument}");
    }
}
