//! A small page with which a browser watches and plays. It holds no secret: the person types the token in.

use loco_model::Key;
use std::sync::LazyLock;

/// Where the key table goes in the page.
const KEYS_PLACE: &str = "/*KEYS*/{}";

/// The page, with the table from W3C codes to wire codes in it.
pub(crate) static HTML: LazyLock<String> = LazyLock::new(|| {
    let keys = Key::all().map(|key| format!("{}:{}", key.code(), key.evdev())).collect::<Vec<_>>().join(",");
    include_str!("../assets/watch.html").replace(KEYS_PLACE, &format!("{{{keys}}}"))
});

/// What the page may do: its own inline script and style, this server, and nothing of the outside.
pub(crate) const SECURITY_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     connect-src 'self'; media-src 'self' mediastream: blob:; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_knows_every_key() {
        assert!(!HTML.contains(KEYS_PLACE));
        assert!(HTML.contains("KeyA:30") && HTML.contains("ArrowUp:103"));
    }
}
