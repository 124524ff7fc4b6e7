//! A policy as the services of S3 read it. Nothing but its form.

use std::collections::BTreeMap;

use serde::Serialize;

/// The language's version, which every service knows.
const VERSION: &str = "2012-10-17";

/// A whole policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyDocument {
    version: &'static str,
    statement: Vec<Statement>,
}

/// One rule of a policy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Statement {
    sid: &'static str,
    effect: Effect,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Named>,
    action: Vec<&'static str>,
    resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
}

/// What a rule does. A refusal wins over whatever else allows.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// Whom a bucket policy's rule is about.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "UPPERCASE")]
struct Named {
    aws: Vec<String>,
}

impl PolicyDocument {
    /// These rules, about the user that the policy is attached to or, in a bucket's own policy, the one it names.
    pub(super) fn new(mut statement: Vec<Statement>, principal: Option<&str>) -> Self {
        let named = principal.map(|principal| Named {
            aws: vec![principal.to_owned()],
        });
        for statement in &mut statement {
            statement.principal.clone_from(&named);
        }
        Self {
            version: VERSION,
            statement,
        }
    }
}

impl Statement {
    /// A rule about what is named by `resource`.
    pub(super) fn new(
        sid: &'static str,
        effect: Effect,
        action: Vec<&'static str>,
        resource: String,
    ) -> Self {
        Self {
            sid,
            effect,
            principal: None,
            action,
            resource: vec![resource],
            condition: BTreeMap::new(),
        }
    }

    /// The rule, where a key of the request compares like this to a value.
    pub(super) fn when(
        mut self,
        compares: &'static str,
        key: &'static str,
        value: impl Into<String>,
    ) -> Self {
        let keys = self.condition.entry(compares).or_default();
        keys.insert(key, value.into());
        self
    }
}
