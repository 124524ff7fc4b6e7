//! What a bucket's lifecycle rules would do to what is stored beneath a prefix. Looks at rules only; asks no service.

use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule, TransitionStorageClass};

use crate::examination::Verdict;

/// Classes whose objects must be thawed before they can be read.
const FROZEN: [TransitionStorageClass; 2] = [
    TransitionStorageClass::Glacier,
    TransitionStorageClass::DeepArchive,
];

/// Classes that are read like any other.
const READABLE: [TransitionStorageClass; 4] = [
    TransitionStorageClass::StandardIa,
    TransitionStorageClass::OnezoneIa,
    TransitionStorageClass::IntelligentTiering,
    TransitionStorageClass::GlacierIr,
];

/// What rules mean for the objects beneath a prefix, for a finding.
pub(super) fn judge(rules: &[LifecycleRule], prefix: &str) -> (String, Verdict) {
    let ours: Vec<_> = rules.iter().filter(|rule| covers(rule, prefix)).collect();
    let (mut harms, mut worst) = (Vec::new(), Verdict::Good);
    for rule in &ours {
        for (harm, verdict) in harms_of(rule) {
            harms.push(format!(
                "{} {harm}",
                rule.id().unwrap_or("one without a name")
            ));
            worst = worst.max(verdict);
        }
    }
    if !harms.is_empty() {
        let found = format!("{}; take these rules away", harms.join(", "));
        return (found, worst);
    }
    let abort_days = ours
        .iter()
        .filter_map(|rule| {
            rule.abort_incomplete_multipart_upload()?
                .days_after_initiation()
        })
        .min();
    let found = match abort_days {
        None => "remove nothing of ours".to_owned(),
        Some(days) => {
            format!("remove nothing of ours, and abort unfinished uploads after {days} days")
        }
    };
    (found, Verdict::Good)
}

/// Whether a rule is in force for objects beneath the prefix. Ours have no tags, so that a rule about tags is not about
/// them.
fn covers(rule: &LifecycleRule, prefix: &str) -> bool {
    let filter = rule.filter();
    let and = filter.and_then(|filter| filter.and());
    let of_tags = filter.is_some_and(|filter| filter.tag().is_some())
        || and.is_some_and(|and| !and.tags().is_empty());
    #[expect(
        deprecated,
        reason = "old rules have their prefix there, and are in force all the same"
    )]
    let of_old_form = rule.prefix();
    let of_rule = filter
        .and_then(|filter| filter.prefix())
        .or_else(|| and.and_then(|and| and.prefix()))
        .or(of_old_form)
        .unwrap_or_default();
    let is_enabled = *rule.status() == ExpirationStatus::Enabled;
    let touches = prefix.starts_with(of_rule) || of_rule.starts_with(prefix);
    is_enabled && !of_tags && touches
}

/// What a rule does to objects that it should not.
fn harms_of(rule: &LifecycleRule) -> Vec<(String, Verdict)> {
    let mut harms = Vec::new();
    // What expires nothing but markers of what was removed is harmless.
    let expires = rule
        .expiration()
        .is_some_and(|expiration| expiration.days().is_some() || expiration.date().is_some());
    if expires {
        harms.push(("will remove backups".to_owned(), Verdict::Bad));
    }
    for class in rule
        .transitions()
        .iter()
        .filter_map(|to| to.storage_class())
    {
        if FROZEN.contains(class) {
            let harm = format!("will move backups to {class}, from where nothing can be read");
            harms.push((harm, Verdict::Bad));
        } else if !READABLE.contains(class) {
            let harm = format!("will move backups to {class}, which may not be readable at once");
            harms.push((harm, Verdict::Warning));
        }
    }
    if rule.noncurrent_version_expiration().is_some() {
        let harm = "will remove earlier versions, which keep what was overwritten".to_owned();
        harms.push((harm, Verdict::Warning));
    }
    harms
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use aws_sdk_s3::types::builders::LifecycleRuleBuilder;
    use aws_sdk_s3::types::{
        AbortIncompleteMultipartUpload, ExpirationStatus, LifecycleExpiration, LifecycleRule,
        LifecycleRuleFilter, NoncurrentVersionExpiration, Tag, Transition, TransitionStorageClass,
    };

    use super::judge;
    use crate::examination::Verdict;

    fn rule() -> LifecycleRuleBuilder {
        LifecycleRule::builder()
            .id("r")
            .status(ExpirationStatus::Enabled)
    }

    fn beneath(prefix: &str) -> LifecycleRuleFilter {
        LifecycleRuleFilter::builder().prefix(prefix).build()
    }

    fn days(days: i32) -> LifecycleExpiration {
        LifecycleExpiration::builder().days(days).build()
    }

    fn to(class: TransitionStorageClass) -> Transition {
        Transition::builder().days(30).storage_class(class).build()
    }

    fn verdict(rule: LifecycleRuleBuilder) -> Verdict {
        judge(&[rule.build().unwrap()], "capstan/").1
    }

    #[test]
    fn rules_that_remove_or_freeze_current_objects_are_bad() {
        for prefix in ["", "cap", "capstan/", "capstan/ab"] {
            let expires = rule().filter(beneath(prefix)).expiration(days(1));
            assert_eq!(verdict(expires), Verdict::Bad, "{prefix}");
        }
        #[expect(deprecated, reason = "the old form of a rule")]
        let old = rule().prefix("capstan/").expiration(days(1));
        assert_eq!(verdict(old), Verdict::Bad);
        assert_eq!(verdict(rule().expiration(days(1))), Verdict::Bad);
        for class in [
            TransitionStorageClass::Glacier,
            TransitionStorageClass::DeepArchive,
        ] {
            assert_eq!(verdict(rule().transitions(to(class))), Verdict::Bad);
        }
    }

    #[test]
    fn rules_that_may_harm_are_warned_of() {
        let unknown = to(TransitionStorageClass::from("COLD"));
        assert_eq!(verdict(rule().transitions(unknown)), Verdict::Warning);
        let versions = NoncurrentVersionExpiration::builder().noncurrent_days(1);
        let versions = rule().noncurrent_version_expiration(versions.build());
        assert_eq!(verdict(versions), Verdict::Warning);
    }

    #[test]
    fn rules_that_touch_no_object_of_ours_are_good() {
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(7);
        let abort = rule().abort_incomplete_multipart_upload(abort.build());
        let markers = LifecycleExpiration::builder().expired_object_delete_marker(true);
        let tag = Tag::builder().key("k").value("v").build().unwrap();
        for (what, good) in [
            (
                "elsewhere",
                rule().filter(beneath("other/")).expiration(days(1)),
            ),
            (
                "off",
                rule()
                    .status(ExpirationStatus::Disabled)
                    .expiration(days(1)),
            ),
            ("markers", rule().expiration(markers.build())),
            (
                "tagged",
                rule()
                    .filter(LifecycleRuleFilter::builder().tag(tag).build())
                    .expiration(days(1)),
            ),
            (
                "readable",
                rule().transitions(to(TransitionStorageClass::GlacierIr)),
            ),
            ("abort", abort),
        ] {
            assert_eq!(verdict(good), Verdict::Good, "{what}");
        }
    }

    #[test]
    fn a_rule_that_aborts_uploads_is_told() {
        let abort = AbortIncompleteMultipartUpload::builder().days_after_initiation(7);
        let rule = rule().abort_incomplete_multipart_upload(abort.build());
        let (found, verdict) = judge(&[rule.build().unwrap()], "capstan/");
        assert_eq!(verdict, Verdict::Good);
        assert!(found.ends_with("after 7 days"), "{found}");
    }
}
