//! Short names for strategies' texts.
//!
//! A preset is registered while the program or module is loaded, by a constructor (the `ctor` crate): unlike the entries of
//! a distributed slice it need not be known when it is compiled, so that there can be one for each policy that is linked.

use once_cell::race::OnceRef;

/// A short name for a strategy's text.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// The name; letters, digits and `-`.
    pub name: &'static str,
    /// What it stands for.
    pub text: &'static str,
}

/// The most presets that there can be.
pub const MAX_PRESETS: usize = 64;

static PRESETS: [OnceRef<'static, Preset>; MAX_PRESETS] = [const { OnceRef::new() }; MAX_PRESETS];

/// There are [`MAX_PRESETS`] already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_PRESETS} presets already")]
pub struct TooManyPresets;

/// Adds one. Its name may be no strategy's, which [`check`](super::check()) sees to.
///
/// # Errors
/// [`TooManyPresets`] when there are [`MAX_PRESETS`] already.
pub fn add_preset(preset: &'static Preset) -> Result<(), TooManyPresets> {
    if PRESETS.iter().any(|cell| cell.set(preset).is_ok()) { Ok(()) } else { Err(TooManyPresets) }
}

/// All presets, in the order in which they were added.
pub fn all() -> impl Iterator<Item = &'static Preset> + Clone {
    PRESETS.iter().filter_map(OnceRef::get)
}

/// The preset of that name.
pub(super) fn named(name: &str) -> Option<&'static Preset> {
    all().find(|preset| preset.name == name)
}
