//! What the README shows is compiled here, word for word.

use tokenweir::{Estimate, Policy, Request, Usage};

#[rustfmt::skip]
#[allow(dead_code, unused_variables)]
async fn shown(policy: Policy) -> Result<(), tokenweir_redis::Error> {
    use tokenweir_redis::{Decision, RedisLimiter, Server, WhenAway};

    let server = Server::parse("rediss://gateway:secret@redis.example.com")?;     // redis+cluster://..., redis+sentinel://...
    let limiter = RedisLimiter::builder(server, policy)
        .when_away(WhenAway::LocalShare { per_mille: 100 })                       // or Deny, or Allow
        .connect().await?;
    match limiter.admit(&Request::new("search", "gpt-4o"), Estimate::new(900, 400)).await? {
        Decision::Admitted(permit) => { permit.settle(Usage::new(912, 77)).await?; }
        Decision::Denied { denied, .. } => { /* 429 or 403, as the engine says it */ }
        Decision::Unavailable => { /* nobody could decide: 503 */ }
    }
    Ok(())
}

#[test]
fn the_readme_shows_what_compiles_here() {
    let source = include_str!("readme.rs");
    let (_, body) = source.split_once("tokenweir_redis::Error> {\n").unwrap();
    let (body, _) = body.split_once("    Ok(())\n").unwrap();
    let body: Vec<&str> = body.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let block = format!("```rust\n{}\n```\n", body.join("\n"));
    assert!(include_str!("../../../../README.md").contains(&block), "the README is to show this:\n{block}");
}
