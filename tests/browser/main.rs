//! The page in a real browser: what a person sees and does while a cluster comes apart and heals.
//!
//! Built only with `RUSTFLAGS="--cfg sapwood_browser"`, because what drives the browser takes long to compile.
//!
//! Pictures of the main states go to `target/pictures/`; whoever changes the page looks at them.
#![cfg(all(unix, sapwood_browser))]
#![allow(clippy::unwrap_used, reason = "the lint takes the helpers of a test for production code")]

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod crowd;

use browser::{Browser, Demo};

/// The card of a node.
fn card(node: &str) -> String {
    format!("//*[@id='nodes']/li[.//h3[normalize-space()='{node}']]")
}

/// A button of that card.
fn button(node: &str, label: &str) -> String {
    format!("{}//button[normalize-space()='{label}']", card(node))
}

/// What a node holds of the chosen key.
fn copy(node: &str) -> String {
    format!("//*[@id='copies']/li[.//h3[normalize-space()='{node}']]")
}

fn link(pair: &str) -> String {
    format!("//*[@id='links-rows']/tr[.//button[normalize-space()='{pair}']]")
}

/// Waits until the page says that all are equal, by word, by digest and by range.
async fn until_equal(page: &Browser) {
    page.until_text("#verdict-head", "hold the same").await;
    page.until(
        "one digest on all cards",
        "return new Set([...document.querySelectorAll('#nodes .chip')].map((n) => n.textContent)).size === 1",
    )
    .await;
    page.until_text("#map-words", "No range differs").await;
}

/// Writes by the form, which chooses the key.
async fn write(page: &Browser, node: &str, key: &str, value: &str) {
    page.click("//*[@id='write']//label[input[@value='register']]").await;
    page.click(&format!("//*[@id='write-nodes']/label[normalize-space()='{node}']")).await;
    page.fill("#write-key", key).await;
    page.fill("#write-value", value).await;
    page.click("#do-write").await;
    page.until_text(&format!("{}//*[contains(@class,'value')]", copy(node)), value).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver"]
async fn a_partition_is_made_written_on_both_sides_and_seen_to_heal() {
    let demo = Demo::start();
    let page = Browser::open(&demo.url()).await;
    until_equal(&page).await;
    assert_eq!(page.texts("#nodes h3").await, ["a", "b", "c"]);
    page.whole_picture("equal", 1440).await;

    write(&page, "a", "colour", "teal").await;
    page.until_text(&copy("c"), "teal").await;
    page.click(&button("a", "Isolate")).await;
    page.until_text("#verdict-head", "Apart").await;
    write(&page, "a", "colour", "red").await;
    write(&page, "b", "colour", "blue").await;
    page.until_text(&copy("c"), "blue").await;
    page.until_text(&copy("b"), "wins").await;
    assert!(page.text(&copy("a")).await.contains("red"));
    assert!(page.text(&copy("a")).await.contains("older"));
    page.until_text("#key-why", "its timestamp is the largest").await;

    diverge(&page, 300_000, 1).await;
    page.whole_picture("isolated", 1440).await;
    let mut is_seen = heals_in_the_picture(&demo, &page).await;
    for (cut, keys) in (2..).zip([600_000, 900_000]) {
        if !is_seen {
            until_equal(&page).await;
            page.click(&button("a", "Isolate")).await;
            page.until_text("#verdict-head", "Apart").await;
            diverge(&page, keys, cut).await;
            is_seen = heals_in_the_picture(&demo, &page).await;
        }
    }
    assert!(is_seen, "no picture shows it heal");
    page.reload().await;

    until_equal(&page).await;
    for node in ["a", "b", "c"] {
        page.until_text(&copy(node), "blue").await;
    }
    page.until(
        "the first steps are done",
        "return document.querySelectorAll('#steps-list .done').length === 5",
    )
    .await;
    page.whole_picture("healed", 1440).await;
    // The time line and the choice of the key were there before the reload.
    page.until_text("#key-name", "colour").await;
    page.until_text("#timeline", "lost b").await;
    page.until_text("#timeline", "holds the same as").await;
    page.close().await;
}

/// Writes so many keys while a is isolated, until the link between a and b is given up, for the so manieth time.
async fn diverge(page: &Browser, keys: u32, cut: usize) {
    page.choose("#load [name=node]", "b").await;
    page.fill("#load [name=count]", &keys.to_string()).await;
    page.click("#load button").await;
    // Those of the turns before are among them.
    page.until_text(&card("c"), &format!("{},{:03}", keys / 1000, 1)).await;
    page.until_text("#map-words", "ranges differ").await;
    // A link that is mended before it was given up heals at once.
    let given_up = format!(
        "return [...document.querySelectorAll('#timeline li')].filter((n) => n.textContent.includes('lost b')).length >= {cut}"
    );
    page.until("the link is given up", &given_up).await;
}

/// Mends all links; returns whether a sync was seen under way, which is in a picture then.
async fn heals_in_the_picture(demo: &Demo, page: &Browser) -> bool {
    page.resize(1280, 900).await;
    page.click(&format!("{}//button", link("a – b"))).await;
    page.until_text("#map-words", "ranges differ").await;
    page.ask("scrollTo(0, 0)").await;
    page.ask(STOP_WHEN_HEALING).await;
    let slowed_down = demo.slow_down();
    page.click("//*[@id='cluster-actions']/button[normalize-space()='Mend all']").await;
    page.until(
        "it was seen to heal, or has healed",
        "return window.caught || /hold the same/.test(document.querySelector('#verdict-head').textContent)",
    )
    .await;
    slowed_down.end().await;
    let is_caught = page.ask("return window.caught").await == true;
    if is_caught {
        page.ask("scrollTo(0, 0)").await;
        page.picture("healing").await;
    }
    is_caught
}

/// Lets the page draw no more, for a picture, as soon as it shows a sync under way.
const STOP_WHEN_HEALING: &str = "
    window.caught = false;
    let stopping = false;
    const draw = requestAnimationFrame;
    new MutationObserver(() => {
        const bar = document.querySelector('#heal-bar');
        const differs = document.querySelector('#map-words').textContent.includes('ranges differ');
        if (stopping || bar.hidden || !(bar.value > 0.05) || !differs) return;
        stopping = true;
        draw(() => draw(() => {
            window.requestAnimationFrame = () => 0;
            window.caught = true;
        }));
    }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver"]
async fn a_single_cut_link_is_relayed_by_the_third() {
    let demo = Demo::start();
    let page = Browser::open(&demo.url()).await;
    until_equal(&page).await;
    // By the keyboard alone.
    page.ask("document.querySelector('#links-rows button').focus()").await;
    page.press_enter().await;
    page.until_text("#link-title", "a – b").await;
    page.click("//*[@id='link-actions']/button[contains(.,'Cut')]").await;
    page.until_text(&link("a – b"), "cut").await;
    page.until_text("#verdict", "others relay").await;
    write(&page, "a", "over", "through c").await;
    page.until_text(&copy("b"), "through c").await;
    page.picture("relayed").await;
    page.click("//*[@id='link-actions']/button[contains(.,'Mend')]").await;
    page.until_text(&link("a – b"), "linked").await;
    until_equal(&page).await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver"]
async fn counters_add_up_and_a_reload_never_shows_less() {
    let demo = Demo::start();
    let page = Browser::open(&demo.url()).await;
    until_equal(&page).await;
    let total = async || {
        let totals = page.texts("#counter-foot td").await;
        totals.iter().map(|total| total.replace(',', "").parse::<i64>().unwrap()).max().unwrap()
    };

    page.click("//*[@id='write']//label[input[@value='counter']]").await;
    page.fill("#write-key", "visits").await;
    page.fill("#write-n", "40").await;
    page.click("#do-set").await;
    page.until_text("#write-said", "Set to 40 at a").await;
    page.until_text(&copy("b"), "40").await;
    page.click("//*[@id='write-nodes']/label[normalize-space()='b']").await;
    page.fill("#write-n", "2").await;
    page.click("#do-add").await;
    page.until_text("#counter-foot td", "42").await;
    let mut seen = 42;
    for _ in 0..3 {
        // The form is still about counters, also after a reload.
        page.click("#do-random").await;
        let more = format!(
            "return Number(document.querySelector('#counter-foot td').textContent.replaceAll(',', '')) > {seen}"
        );
        page.until("the total grows", &more).await;
        seen = total().await;
        page.reload().await;
        page.until_text("#counter-foot th", "Total").await;
        assert!(total().await >= seen, "a reload shows less than {seen}");
    }
    page.until("all nodes count the same", "return new Set([...document.querySelectorAll('#counter-foot td')].map((n) => n.textContent)).size === 1")
        .await;
    let rows = page.texts("#counter-rows th").await;
    for owner in ["a ", "b ", "c "] {
        assert!(rows.iter().any(|row| row.starts_with(owner)), "{owner} in {rows:?}");
    }
    page.ask("document.querySelector('#counter').scrollIntoView({ block: 'end' })").await;
    page.picture("counters").await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver"]
async fn hostile_keys_and_values_are_escaped_and_cut() {
    let demo = Demo::start();
    let page = Browser::open(&demo.url()).await;
    until_equal(&page).await;
    let address = page.text(&format!("{}//dt[.='Clients']/following-sibling::dd", card("a"))).await;
    let mut redis = redis::Client::open(format!("redis://{address}/")).unwrap().get_connection().unwrap();
    let html = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>";
    let turned = "rtl\u{202e}gnp.exe";
    let long = vec![b'k'; 4000];
    let hostile: [(&[u8], Vec<u8>); 5] = [
        (html.as_bytes(), html.as_bytes().to_vec()),
        (b"\0\x01\x1b[31m\xff\n", b"\0\r\n\x1b]0;taken\x07\xfe".to_vec()),
        (b"big", vec![b'x'; 64 << 10]),
        (turned.as_bytes(), "\u{200b}hidden".into()),
        (&long, Vec::new()),
    ];
    for (key, value) in &hostile {
        redis::cmd("SET").arg(*key).arg(value).exec(&mut redis).unwrap();
    }
    page.until("all are listed", "return document.querySelectorAll('#keys-rows tr').length === 5").await;
    let text = page.text("#keys-rows").await;
    let escaped = [
        "<script>",
        r"\x00\x01\x1b[31m\xff\x0a",
        r"\x00\x0d\x0a\x1b]0;taken\x07\xfe",
        r"rtl\xe2\x80\xaegnp.exe",
        r"\u{200b}hidden",
        "…",
    ];
    for seen in escaped {
        assert!(text.contains(seen), "{seen} in {text}");
    }
    let unseen = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{200b}');
    assert!(!text.contains(unseen), "{text:?}");
    let longest = "return Math.max(...[...document.querySelectorAll('#keys-rows :is(th, td)')].map((n) => n.textContent.length))";
    let longest = page.ask(longest).await.as_u64().unwrap();
    assert!(longest < 300, "{longest} characters in one place");
    assert_eq!(
        page.ask("return document.querySelectorAll('#keys-rows button:disabled').length").await,
        1,
        "the long key"
    );

    for row in 0..5 {
        let choose = format!(
            "const key = document.querySelectorAll('#keys-rows button')[{row}]; key.click(); return key.disabled"
        );
        if page.ask(&choose).await == false {
            let chosen = format!(
                "return document.querySelectorAll('#keys-rows button')[{row}].getAttribute('aria-pressed') === 'true'"
            );
            page.until("the key is chosen", &chosen).await;
            page.until(
                "its copies are there",
                "return document.querySelectorAll('#copies > li').length === 3",
            )
            .await;
        }
    }
    page.click("//*[@id='keys-rows']//button[contains(.,'<img')]").await;
    page.until_text(&copy("b"), "<img src=x").await;
    page.ask("document.querySelector('#keys-scroll').scrollIntoView({ block: 'center' })").await;
    page.picture("hostile").await;
    assert_eq!(
        page.ask("return document.querySelectorAll('main img, main script, main iframe').length").await,
        0
    );
    assert!(!page.ask("return document.title").await.as_str().unwrap().contains("taken"));

    page.fill("#prefix", "bi").await;
    page.until("one key begins like this", "return document.querySelectorAll('#keys-rows tr').length === 1")
        .await;
    page.fill("#prefix", "nothing begins like this").await;
    page.until_text("#keys-empty", "No key begins with this").await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver"]
async fn it_is_readable_in_the_dark_and_in_a_narrow_window() {
    let demo = Demo::start();
    let page = Browser::open(&demo.url()).await;
    until_equal(&page).await;
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let light = page.ask(ground).await;
    page.prefer("prefers-color-scheme", "dark").await;
    let dark = page.ask(ground).await;
    assert_ne!(light, dark);
    page.whole_picture("dark", 1440).await;
    // The button goes from the system's to light, and on to dark.
    page.click("#theme").await;
    assert_eq!(page.ask(ground).await, light);
    page.reload().await;
    assert_eq!(page.ask(ground).await, light, "a reload keeps what was chosen");

    page.resize(390, 844).await;
    until_equal(&page).await;
    write(
        &page,
        "a",
        "a-key-with-a-name-of-some-length",
        "and a value that is longer than a narrow window is wide",
    )
    .await;
    assert_eq!(
        page.ask("return document.documentElement.scrollWidth").await,
        390,
        "nothing is wider than the window"
    );
    page.ask("scrollTo(0, 0)").await;
    page.picture("narrow").await;
    page.whole_picture("narrow-whole", 390).await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver"]
async fn a_node_that_is_lost_is_said_to_be_lost_until_it_is_back() {
    let mut demo = Demo::start();
    let page = Browser::open(&demo.url()).await;
    until_equal(&page).await;
    demo.end();
    page.until_text("#lost:not([hidden])", "The connection is lost").await;
    page.click("//*[@id='cluster-actions']/button[normalize-space()='Add a node']").await;
    page.until_text(".notice", "cannot be reached").await;
    page.picture("lost").await;
    demo.start_again();
    page.until("the banner is gone", "return document.querySelector('#lost').hidden").await;
    until_equal(&page).await;
    // The page that was open has the token of the server before.
    write(&page, "a", "after", "the restart").await;
    let complaints = page.complaints().await;
    let expected = |text: &String| text.contains("Failed to load resource") || text.contains("net::ERR_");
    assert!(complaints.iter().all(expected), "{complaints:#?}");
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and chromedriver"]
async fn nodes_are_stopped_started_empty_and_added() {
    let demo = Demo::start();
    let page = Browser::open(&demo.url()).await;
    until_equal(&page).await;
    page.fill("#load [name=count]", "1000").await;
    page.click("#load button").await;
    page.until_text(&card("c"), "1,000").await;
    page.click(&button("c", "Stop")).await;
    page.until_text(&card("c"), "stopped").await;
    page.click(&button("c", "Start empty")).await;
    page.until_text(&card("c"), "1,000").await;
    page.click("//*[@id='cluster-actions']/button[normalize-space()='Add a node']").await;
    page.until_text(&card("d"), "1,000").await;
    until_equal(&page).await;
    assert_eq!(page.texts("#nodes h3").await, ["a", "b", "c", "d"]);
    page.picture("four").await;
    page.close().await;
}
