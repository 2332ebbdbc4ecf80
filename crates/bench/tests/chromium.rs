//! The browser as a tool: starts, evaluates, paints, tells exceptions, and leaves nothing running.

use loco_bench::chromium::Browser;
use loco_bench::cpu;

#[tokio::test]
async fn a_browser_evaluates_and_ends() {
    let mut browser = match Browser::start(&[]).await {
        Err(error) if error.to_string().starts_with("no Chromium found") => {
            eprintln!("skipped: {error}");
            return;
        }
        other => other.unwrap(),
    };
    assert!(browser.version().contains("Chrome/"), "{}", browser.version());
    assert_eq!(browser.evaluate("Promise.resolve(6 * 7)").await.unwrap(), 42);
    let error = browser.evaluate("throw new Error('on purpose')").await.unwrap_err();
    assert!(error.to_string().contains("on purpose"), "{error}");
    assert_eq!(browser.evaluate("typeof RTCPeerConnection").await.unwrap(), "function");
    // The window's new size reaches the page a moment later.
    let resized = "new Promise(done => { const look = () => innerHeight === 960 ? done(innerWidth) : requestAnimationFrame(look); look(); })";
    assert_eq!(browser.evaluate(resized).await.unwrap(), 1280, "the page has the wall's size");
    let png = browser.screenshot().await.unwrap();
    assert_eq!(&png[1..4], b"PNG");
    let pid = browser.pid().unwrap();
    let all: Vec<u32> = cpu::tree(pid).iter().map(|process| process.pid).collect();
    assert!(all.len() > 3, "a browser is several processes: {all:?}");
    drop(browser);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while all.iter().any(|pid| std::path::Path::new(&format!("/proc/{pid}/exe")).exists()) {
        assert!(std::time::Instant::now() < deadline, "processes of the browser are left");
        tokio::task::yield_now().await;
    }
}
