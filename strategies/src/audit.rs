//! `audit`: wraps another strategy and audits its shadow tables.
//!
//! [`framework::audit`] describes what is proved. A guest whose shadow tables have a defect is killed.

use framework::audit::Audited;
use framework::fallible::boxed;
use framework::parameter::{Flag, Number, Parameter};
use framework::registry::{WRAPPERS, WrapperEntry};

static EVERY: Number = Number {
    name: "every",
    help: "operations from one audit to the next",
    default: 1,
    range: 1..=1_000_000_000,
};
static SWITCHER: Flag = Flag {
    name: "switcher",
    help: "let the Switcher do by itself what the strategy allows, and audit that afterwards",
    default: false,
};
static PARAMETERS: [Parameter; 2] = [Parameter::Number(&EVERY), Parameter::Flag(&SWITCHER)];

#[linkme::distributed_slice(WRAPPERS)]
static AUDIT: WrapperEntry = WrapperEntry {
    name: "audit",
    help: "holds another strategy's shadow tables against the guest's",
    parameters: &PARAMETERS,
    of: "lguest",
    build: |_, values, of| {
        let audited = Audited::new(of, values.number(&EVERY));
        Ok(boxed(audited.with_switcher(values.flag(&SWITCHER)))?)
    },
};
