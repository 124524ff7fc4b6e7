//! Round trips through the public interface: what is written reads back, for a run's whole way down.

use formats::chunk::{ChunkKind, chunk_id};
use formats::config::RepositoryConfig;
use formats::ids::{RecordId, RepositoryId, RunId};
use formats::keys::bundle::{KeyBundle, Role};
use formats::keys::repository::RepositoryKeys;
use formats::keys::secret::MasterKey;
use formats::log::record::{Payload, RecordPlace, SealedRecord, seal_record};
use formats::log::snapshot::{Snapshot, SnapshotTotals};
use formats::pack::assemble::PackAssembler;
use formats::pack::index::{decode_piece, encode_pieces};
use formats::pack::open::{Trailer, verify_pack};
use formats::pack::table::TableChunk;
use formats::seal::frame::FrameSealer;
use formats::seal::run_header::{Purpose, RunContext, RunHeader};
use formats::wire::control::names::Names;
use formats::wire::facts::HostFacts;

fn keys() -> RepositoryKeys {
    let bundle = KeyBundle::new(&MasterKey::from_bytes([1; 32]), Role::Data);
    RepositoryKeys::derive(&bundle, RepositoryId([2; 16]), 1)
}

#[test]
fn a_pack_verifies_opens_without_an_index_and_gathers_into_one() {
    let keys = keys();
    let public = keys.public().expect("the data role has all keys");
    let context = RunContext {
        repository: keys.repository,
        epoch: keys.epoch,
        run: RunId([3; 16]),
        purpose: Purpose::Data,
    };
    let (header, run_keys) = RunHeader::create(context, &public).expect("keys encapsulate");
    let id_key = keys.id().expect("the data role has it");
    let mut sealer = FrameSealer::new(context, run_keys.data.clone(), 3).expect("a level zstd has");
    let mut assembler = PackAssembler::new(header.clone(), run_keys.table.clone());
    let mut pack = Vec::new();
    for plain in [vec![7u8; 100_000], (0..=255).cycle().take(70_001).collect()] {
        let shape = sealer
            .seal(ChunkKind::Data, &plain, &mut pack)
            .expect("sealing works");
        let chunks = plain
            .chunks(50_000)
            .map(|bytes| TableChunk {
                id: chunk_id(id_key, ChunkKind::Data, bytes),
                bytes: bytes.len() as u32,
            })
            .collect();
        assembler.add_frame(shape, chunks);
    }
    pack.extend(assembler.finish().expect("finishing works"));

    let table = verify_pack(&pack, &header, &run_keys.table, &run_keys.data, id_key)
        .expect("what was assembled verifies");
    assert_eq!(table.frames.len(), 2);
    let trailer = Trailer::decode(&pack, pack.len() as u64).expect("the trailer reads");
    let reopened = trailer
        .open_table_with(keys.meta().expect("the data role has it"))
        .expect("the table opens with the repository's keys alone");
    assert_eq!(reopened, table);

    let name = formats::ids::PackId([9; 32]);
    let pieces = encode_pieces([(name, pack.len() as u64, &table)]);
    let groups = decode_piece(&pieces[0]).expect("the piece reads");
    assert_eq!(groups[0].frames, table.frames);
}

#[test]
fn a_log_record_opens_at_its_place_and_nowhere_else() {
    let keys = keys();
    let public = keys.public().expect("the data role has all keys");
    let place = RecordPlace {
        repository: keys.repository,
        epoch: keys.epoch,
        sequence: 1,
        previous: RecordId([0; 32]),
    };
    let payload = Payload::Snapshot(Box::new(Snapshot {
        host: "web1".into(),
        run: RunId([3; 16]),
        started_nanos: 1,
        committed_nanos: 2,
        parent: None,
        verified: true,
        sources: vec![b"etc".to_vec()],
        page_index: vec![],
        index: vec![],
        meta_packs: vec![],
        totals: SnapshotTotals::default(),
        problems: vec![],
        names: Names::default(),
        facts: HostFacts::default(),
        agent: "0.1.0".into(),
    }));
    let (bytes, id) = seal_record(&place, &payload, &public.log, &keys).expect("it seals");
    let record = SealedRecord::check(&bytes, &public.verifying, &place).expect("it checks");
    assert_eq!(record.id, id);
    let opened = record.open(keys.log().expect("the data role has it"));
    assert_eq!(opened, Ok(payload));
    for elsewhere in [
        RecordPlace {
            sequence: 2,
            ..place
        },
        RecordPlace {
            previous: id,
            ..place
        },
        RecordPlace {
            repository: RepositoryId([8; 16]),
            ..place
        },
    ] {
        assert!(SealedRecord::check(&bytes, &public.verifying, &elsewhere).is_err());
    }

    let config = RepositoryConfig {
        repository: keys.repository,
        epoch: keys.epoch,
        public: public.clone(),
    };
    let sealed = config.seal(&keys).expect("it seals");
    assert_eq!(
        RepositoryConfig::open(&sealed, keys.repository, &public.verifying),
        Ok(config)
    );
}
