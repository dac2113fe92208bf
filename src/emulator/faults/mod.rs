//! Injected faults: the rules that users set, and the injector that applies them to calls.

mod injector;
mod rules;

pub use self::rules::{BodyForm, EmulatedQuotas, Fault, FaultRule, FaultTiming, Faults, StatusFault};
pub(super) use self::{
    injector::{FaultInjector, SNAPSHOT_INTERVAL},
    rules::to_duration,
};
