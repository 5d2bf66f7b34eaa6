//! What comes over the wire: an agent's frames, and a registry's challenges.

use agent_protocol::{FromAgent, ProcessId, StartFailure, ToAgent, encode, read_frame};

use crate::fuzz;

#[test]
fn agent_frame() {
    let failed = FromAgent::StartFailed {
        process: ProcessId(1),
        reason: StartFailure::NotFound,
        message: "no such file".to_owned(),
    };
    let seeds = [FromAgent::Hello { version: 1 }, failed, FromAgent::Frozen(true)];
    let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| encode(seed).unwrap()).collect();
    seeds.push(encode(&ToAgent::Signal { process: ProcessId::INIT, signal: 9 }).unwrap());
    seeds.push(seeds.concat());
    seeds.push(u32::MAX.to_le_bytes().to_vec());
    fuzz("agent-frame", seeds, |mut input| {
        let mut rest = input;
        while let Ok(Some(_)) = read_frame::<FromAgent>(&mut input) {}
        while let Ok(Some(_)) = read_frame::<ToAgent>(&mut rest) {}
    });
}

#[test]
fn challenge() {
    let seeds = [
        r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull""#,
        r#"Basic realm="x", Bearer realm=y, Digest nonce="a\"b""#,
    ];
    fuzz("challenge", seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect(), |input| {
        registry::fuzz::challenge(input);
    });
}
