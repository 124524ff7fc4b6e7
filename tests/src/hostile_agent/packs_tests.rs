//! The honest pack verifies, and each lie is one that only its own check can find.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test at once")]

use std::time::{Duration, Instant};

use formats::chunk::ChunkKind;
use formats::ids::{RepositoryId, RunId};
use formats::keys::repository::PublicKeys;
use formats::keys::secret::{ChunkingKey, IdKey, KemSeed, RunToken};
use formats::limits::CHUNK_BYTES_MAX;
use formats::pack::open::{PackError, verify_pack};
use formats::seal::kem;
use formats::seal::run_header::{Purpose, RunContext, RunHeader};
use formats::wire::start::{AgentLimits, Rules, Start, Transport};

use super::{
    bomb, data_id, honest, mislabelled, of_another_run, sealed_for_another, with_plain_length,
};

fn orders() -> Start {
    let context = RunContext {
        repository: RepositoryId([1; 16]),
        epoch: 0,
        run: RunId([2; 16]),
        purpose: Purpose::Data,
    };
    let public = |seed| kem::public(&KemSeed::from_bytes([seed; 32]));
    let public = PublicKeys {
        data: public(6),
        meta: public(7),
        log: public(8),
        verifying: [9; 32],
    };
    let (header, keys) = RunHeader::create(context, &public).unwrap();
    Start {
        repository: context.repository,
        epoch: 0,
        run: context.run,
        id_key: IdKey::from_bytes([3; 32]),
        chunking_key: ChunkingKey::from_bytes([4; 32]),
        data_key: keys.data,
        table_key: keys.table,
        run_header: header.encode(),
        token: RunToken::from_bytes([5; 32]),
        transport: Transport::Stdio,
        rules: Rules::default(),
        streams: Vec::new(),
        limits: AgentLimits::default(),
    }
}

fn verdict(orders: &Start, pack: &[u8]) -> Result<(), PackError> {
    let issued = RunHeader::decode(&orders.run_header).unwrap();
    verify_pack(
        pack,
        &issued,
        &orders.table_key,
        &orders.data_key,
        &orders.id_key,
    )
    .map(drop)
}

#[test]
fn the_honest_pack_verifies() {
    let orders = orders();
    verdict(&orders, &honest(&orders, &[b"one", b"two"]).unwrap()).unwrap();
}

#[test]
fn each_lie_is_found_for_its_own_reason() {
    let orders = orders();
    let mislabelled = mislabelled(&orders, &[(data_id(&orders, b"other"), b"content")]).unwrap();
    assert!(matches!(
        verdict(&orders, &mislabelled),
        Err(PackError::Chunk { .. })
    ));
    let other_run = of_another_run(&orders, b"content").unwrap();
    assert!(matches!(
        verdict(&orders, &other_run),
        Err(PackError::RunHeader(_))
    ));
    let sealed = sealed_for_another(
        &orders,
        b"content",
        |context| context.epoch += 1,
        ChunkKind::Data,
    )
    .unwrap();
    assert!(matches!(
        verdict(&orders, &sealed),
        Err(PackError::Frame { .. })
    ));
    let kind = sealed_for_another(&orders, b"content", |_| {}, ChunkKind::Page).unwrap();
    assert!(matches!(
        verdict(&orders, &kind),
        Err(PackError::Frame { .. })
    ));
    for declared in [0, 6, 8, u32::MAX] {
        assert!(
            verdict(
                &orders,
                &with_plain_length(&orders, b"content", declared).unwrap()
            )
            .is_err(),
            "{declared}"
        );
    }
}

#[test]
fn the_bomb_is_refused_at_once() {
    let orders = orders();
    let pack = bomb(&orders, CHUNK_BYTES_MAX, 1 << 30).unwrap();
    assert!(pack.len() < 1 << 20, "{} bytes", pack.len());
    let start = Instant::now();
    assert!(matches!(
        verdict(&orders, &pack),
        Err(PackError::Frame { .. })
    ));
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}
