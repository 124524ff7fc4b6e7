//! What is printed, in detail; that it does what it says is proved on real servers in `tests/tests/destination_policy.rs`.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli::destination::DestinationCommand;
use crate::cli::{Cli, Command};
use crate::commands::destination::DestinationCommandError;
use crate::commands::destination_policy::destination_policy;
use crate::config::Config;
use crate::exit_code::ExitCode;

const COORDINATOR: &str = r#"
state_dir = "state"

[[destination]]
name = "local"
url = "file:///srv/it's here"

[[destination]]
name = "aws"
url = "s3://backups/capstan"
provider = "aws"
region = "eu-central-1"
access_key_id = "key"
secret_key_file = "secret"
required = false
retain = "30d"
legal_hold = true

[[destination]]
name = "minio"
url = "s3://own"
provider = "minio"
endpoint = "https://minio.example.org:9000"
access_key_id = "key"
secret_key_file = "secret"
required = false

[[destination]]
name = "china"
url = "s3://backups-1"
provider = "aws"
region = "cn-north-1"
conditional_writes = "off"
access_key_id = "key"
secret_key_file = "secret"
required = false

[[destination]]
name = "b2"
url = "s3://backups-2"
provider = "b2"
region = "eu-central-003"
access_key_id = "key"
secret_key_file = "secret"
required = false

[[destination]]
name = "b2-locked"
url = "s3://backups-3/cap stan"
provider = "b2"
region = "eu-central-003"
access_key_id = "key"
secret_key_file = "secret"
required = false
retain = "30d"

[[destination]]
name = "r2"
url = "s3://backups-4/capstan"
provider = "r2"
account = "0123456789abcdef"
access_key_id = "key"
secret_key_file = "secret"
required = false

[[destination]]
name = "r2-eu"
url = "s3://backups-5/capstan"
endpoint = "https://0123456789abcdef.eu.r2.cloudflarestorage.com"
access_key_id = "key"
secret_key_file = "secret"
required = false
retain = "60d"

[[destination]]
name = "exoscale"
url = "s3://backups-6"
provider = "exoscale"
region = "ch-gva-2"
access_key_id = "key"
secret_key_file = "secret"
required = false

[[destination]]
name = "pattern"
url = "s3://backups/all*"
endpoint = "https://s3.example.org"
access_key_id = "key"
secret_key_file = "secret"
required = false

[[destination]]
name = "nas"
url = "sftp://backup@nas.example.org:22/volume1/backup"
host_key = ["SHA256:uNiVztksCsDhcc0u9e8BrrJXVGDQwHR9kVYQ2dXsV0Y"]
identity_file = "keys/nas"
required = false
"#;

fn print(line: &str) -> Result<String, DestinationCommandError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("coordinator.toml");
    std::fs::write(&file, COORDINATOR).unwrap();
    std::fs::write(directory.path().join("hosts.toml"), "").unwrap();
    std::fs::create_dir(directory.path().join("keys")).unwrap();
    std::fs::write(
        directory.path().join("keys/nas.pub"),
        "ssh-ed25519 AAAA coordinator\n",
    )
    .unwrap();
    let config = Config::load(&file).unwrap();
    let words = ["coordinator", "destination", "policy"].into_iter();
    let cli = Cli::try_parse_from(words.chain(line.split_whitespace())).unwrap();
    let Command::Destination(DestinationCommand::Policy(args)) = &cli.command else {
        unreachable!("{cli:?}")
    };
    let mut out = Vec::new();
    destination_policy(args, &config, cli.global.json, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn document(line: &str) -> Value {
    serde_json::from_str(&print(&format!("{line} --json")).unwrap()).unwrap()
}

fn statement<'a>(policy: &'a Value, sid: &str) -> Option<&'a Value> {
    let mut statements = policy["Statement"].as_array().unwrap().iter();
    statements.find(|statement| statement["Sid"] == sid)
}

#[test]
fn amazons_ingest_policy_puts_with_locks_and_refuses_the_rest() {
    let expected = json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "StoreObjects", "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:PutObjectRetention"],
                "Resource": ["arn:aws:s3:::backups/capstan/*"],
            },
            {
                "Sid": "HoldObjects", "Effect": "Allow",
                "Action": ["s3:PutObjectLegalHold"],
                "Resource": ["arn:aws:s3:::backups/capstan/*"],
                "Condition": { "StringEquals": { "s3:object-lock-legal-hold": "ON" } },
            },
            {
                "Sid": "NeverOverwrite", "Effect": "Deny",
                "Action": ["s3:PutObject"],
                "Resource": ["arn:aws:s3:::backups/capstan/*"],
                "Condition": { "Null": { "s3:if-none-match": "true" } },
            },
            {
                "Sid": "NeverRemove", "Effect": "Deny",
                "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"],
                "Resource": ["arn:aws:s3:::backups/*"],
            },
            {
                "Sid": "NeverChangeTheBucket", "Effect": "Deny",
                "Action": [
                    "s3:PutBucket*", "s3:DeleteBucket*",
                    "s3:PutLifecycleConfiguration", "s3:PutReplicationConfiguration",
                ],
                "Resource": ["arn:aws:s3:::backups"],
            },
        ],
    });
    assert_eq!(document("aws --role ingest"), expected);
}

#[test]
fn a_bucket_of_its_own_needs_no_prefix_and_no_lock_no_right_to_it() {
    let ingest = document("minio --role ingest");
    let store = statement(&ingest, "StoreObjects").unwrap();
    assert_eq!(store["Action"], json!(["s3:PutObject"]));
    assert_eq!(store["Resource"], json!(["arn:aws:s3:::own/*"]));
    assert!(statement(&ingest, "HoldObjects").is_none());
    // MinIO knows no such condition, and refuses a policy with it.
    assert!(statement(&ingest, "NeverOverwrite").is_none());
    let restore = document("minio --role restore");
    assert_eq!(
        restore["Statement"],
        json!([
            {
                "Sid": "ReadObjects", "Effect": "Allow", "Action": ["s3:GetObject"],
                "Resource": ["arn:aws:s3:::own/*"],
            },
            {
                "Sid": "ListObjects", "Effect": "Allow", "Action": ["s3:ListBucket"],
                "Resource": ["arn:aws:s3:::own"],
            },
        ])
    );
    let text = print("minio --role ingest").unwrap();
    assert!(text.contains("mc admin policy attach"), "{text}");
    assert!(!text.contains("AbortIncomplete"), "{text}");
}

#[test]
fn a_prefix_limits_what_is_listed_and_a_lock_is_shown() {
    let maintain = document("aws --role maintain");
    let list = statement(&maintain, "ListObjects").unwrap();
    assert_eq!(
        list["Condition"],
        json!({ "StringLike": { "s3:prefix": "capstan/*" } })
    );
    assert_eq!(
        statement(&maintain, "ReadObjects").unwrap()["Action"],
        json!([
            "s3:GetObject",
            "s3:GetObjectRetention",
            "s3:GetObjectLegalHold"
        ])
    );
    let prune = document("aws --role prune");
    let list = statement(&prune, "ListObjects").unwrap();
    assert_eq!(
        list["Action"],
        json!(["s3:ListBucket", "s3:ListBucketVersions"])
    );
    assert!(statement(&prune, "ReadObjects").is_none());
}

#[test]
fn a_principal_stands_in_every_statement() {
    let arn = "arn:aws:iam:::user/capstan-ingest";
    let policy = document(&format!(
        "aws --role ingest --flavour ceph --principal {arn}"
    ));
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Principal"], json!({ "AWS": [arn] }));
    }
    // Who puts an object there owns it.
    let owner = statement(&policy, "NeverReadOrShare").unwrap();
    assert_eq!(owner["Effect"], "Deny");
    let hold = statement(&policy, "HoldObjects").unwrap();
    assert_eq!(hold["Condition"], Value::Null);
}

#[test]
fn partitions_and_what_is_configured_are_minded() {
    let ingest = document("china --role ingest");
    let store = statement(&ingest, "StoreObjects").unwrap();
    assert_eq!(store["Resource"], json!(["arn:aws-cn:s3:::backups-1/*"]));
    // Without conditional writes the condition would refuse every put.
    assert!(statement(&ingest, "NeverOverwrite").is_none());
}

#[test]
fn lifecycle_rules_expire_nothing() {
    let text = print("aws --role ingest").unwrap();
    let (_, rules) = text.split_once("file://lifecycle.json\n").unwrap();
    let rules: Value = serde_json::from_str(rules).unwrap();
    let expected = json!({ "Rules": [{
        "ID": "capstan-abandoned-uploads",
        "Status": "Enabled",
        "Filter": { "Prefix": "capstan/" },
        "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 7 },
    }]});
    assert_eq!(rules, expected);
}

#[test]
fn backblaze_gets_an_application_key_with_what_the_role_needs() {
    let text = print("b2 --role ingest").unwrap();
    let line = "\nb2 key create --bucket backups-2 capstan-ingest writeFiles\n";
    assert!(text.contains(line), "{text}");
    let text = print("b2-locked --role restore").unwrap();
    let line = "\nb2 key create --bucket backups-3 --name-prefix 'cap stan/' capstan-restore \
                listFiles,readFiles,readFileRetentions,readFileLegalHolds\n";
    assert!(text.contains(line), "{text}");
    let ingest = json!({
        "keyName": "capstan-ingest",
        "capabilities": ["writeFiles", "writeFileRetentions"],
        "namePrefix": "cap stan/",
    });
    assert_eq!(document("b2-locked --role ingest"), ingest);
    for (role, may_remove) in [
        ("ingest", false),
        ("restore", false),
        ("maintain", false),
        ("prune", true),
    ] {
        let capabilities = &document(&format!("b2-locked --role {role}"))["capabilities"];
        let capabilities: Vec<_> = capabilities.as_array().unwrap().iter().collect();
        let has = |word: &str| capabilities.iter().any(|one| *one == word);
        assert_eq!(has("deleteFiles"), may_remove, "{role}: {capabilities:?}");
        for nobodys in [
            "bypassGovernance",
            "writeBuckets",
            "writeKeys",
            "writeFileLegalHolds",
        ] {
            assert!(!has(nobodys), "{role}: {capabilities:?}");
        }
    }
    // The rules that are proposed expire nothing.
    let text = print("b2 --role prune").unwrap();
    assert!(
        !text.contains("daysFromHiding") && !text.contains("daysFromUploading"),
        "{text}"
    );
}

#[test]
fn cloudflare_gets_a_token_and_the_bucket_a_lock() {
    let expected = json!({
        "name": "capstan-restore",
        "policies": [{
            "effect": "allow",
            "resources": { "com.cloudflare.edge.r2.bucket.0123456789abcdef_default_backups-4": "*" },
            "permission_groups": [{
                "id": "6a018a9f2fc74eb6b293b0c548f38b39",
                "name": "Workers R2 Storage Bucket Item Read",
            }],
        }],
    });
    assert_eq!(document("r2 --role restore"), expected);
    let text = print("r2 --role ingest").unwrap();
    for words in [
        "Object Read & Write",
        "accounts/0123456789abcdef/tokens",
        "\nnpx wrangler r2 bucket lock add backups-4 capstan capstan/ --retention-days 30\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!print("r2 --role restore").unwrap().contains("bucket lock"));
    let text = print("r2-eu --role prune --flavour r2").unwrap();
    assert!(text.contains("_eu_backups-5"), "{text}");
    assert!(text.contains("--retention-days 60 -J eu\n"), "{text}");
    assert!(text.contains("leave out `retain`"), "{text}");
}

#[test]
fn an_sftp_login_gets_a_block_for_its_role() {
    let text = print("nas --role ingest").unwrap();
    for words in [
        "install -d -o root -g root -m 0755 /srv/capstan /srv/capstan/volume1\n",
        "install -d -o backup -g backup -m 0700 /srv/capstan/volume1/backup\n",
        "\nrestrict ssh-ed25519 AAAA coordinator\n",
        "\nMatch User backup\n    ChrootDirectory /srv/capstan\n    ForceCommand internal-sftp -d / -p open,close,",
        "\n    DisableForwarding yes\n",
        "\n    PermitTTY no\n",
        "never be the only copy",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = print("nas --role restore --chroot /volume9/").unwrap();
    assert!(text.contains("Match User backup-restore\n"), "{text}");
    assert!(
        text.contains("ForceCommand internal-sftp -d / -R\n"),
        "{text}"
    );
    assert!(text.contains(" 0700 /volume9/volume1/backup\n"), "{text}");
}

#[test]
fn a_directory_has_an_owner_and_a_mode() {
    let text = print("local --role prune").unwrap();
    let line = r"install -d -o capstan -g capstan -m 0700 '/srv/it'\''s here'";
    assert!(text.ends_with(&format!("\n\n{line}\n")), "{text}");
}

#[test]
fn what_cannot_be_printed_says_why() {
    for (line, words) in [
        ("local --role prune --json", "leave out --json"),
        ("nas --role prune --flavour aws", "leave out --flavour"),
        ("nas --role prune --chroot relative", "absolute path"),
        ("nas --role prune --chroot /a%u", "absolute path"),
        ("aws --role prune --chroot /srv", "leave out --chroot"),
        ("exoscale --role prune", "--flavour aws"),
        (
            "b2 --role prune --principal arn:aws:iam::1:user/p",
            "leave out --principal",
        ),
        ("pattern --role prune", "choose another prefix"),
        (
            "minio --role prune --principal arn:aws:iam::1:user/p",
            "leave out --principal",
        ),
    ] {
        let error = print(line).unwrap_err();
        assert!(error.to_string().contains(words), "{line}: {error}");
        assert_eq!(error.exit_code(), ExitCode::Error);
    }
    let error = print("elsewhere --role prune").unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::NotFound);
    assert!(error.to_string().contains("nas"), "{error}");
    assert!(print("b2 --role prune --flavour aws").is_ok());
}
