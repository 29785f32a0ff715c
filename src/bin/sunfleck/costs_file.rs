//! Costs of steps, measured once for each adapter, model and drafter and kept in the cache folder.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sunfleck::{
    draft::StepCosts,
    generate::{GenerateError, Session},
    wgpu::AdapterInfo,
};

/// The costs of `session`'s steps, and whether they were measured now. What is in the cache folder may be deleted at
/// any time; where there is no such folder, or it can't be written, costs are measured at every start.
///
/// # Errors
/// Those of measuring.
pub async fn costs(
    session: &mut Session,
    adapter: &AdapterInfo,
) -> Result<(StepCosts, bool), GenerateError> {
    let key = key(session, adapter);
    let file = folder(|name| std::env::var_os(name)).map(|folder| folder.join(file_name(&key)));
    if let Some(costs) = file.as_deref().and_then(|file| read(file, &key)) {
        return Ok((costs, false));
    }
    let costs = session.measure_costs().await?;
    if let Some(file) = file {
        write(&file, &key, &costs);
    }
    Ok((costs, true))
}

/// What costs depend on.
fn key(session: &Session, adapter: &AdapterInfo) -> String {
    let options = session.decoder().options();
    format!(
        "sunfleck {}; {} {} {} {}; model {:016x}; {:?} cache, page {:?}, {} drafted; drafter {}",
        env!("CARGO_PKG_VERSION"),
        adapter.name,
        adapter.backend,
        adapter.driver,
        adapter.driver_info,
        session.decoder().fingerprint(),
        options.cache,
        options.page,
        options.max_draft,
        session.drafter(),
    )
}

/// A name of its own for each key: FNV-1a, 64 bits.
fn file_name(key: &str) -> String {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("costs-{hash:016x}.json")
}

/// The folder of this program's files that may be lost: as `cargo xtask` has it.
fn folder(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let home = |inside: &str| set("HOME").map(|home| home.join(inside));
    let of_platform = match std::env::consts::OS {
        "windows" => set("LOCALAPPDATA"),
        "macos" => home("Library/Caches"),
        _ => set("XDG_CACHE_HOME")
            .filter(|folder| folder.is_absolute())
            .or_else(|| home(".cache")),
    };
    set("SUNFLECK_CACHE").or_else(|| of_platform.map(|folder| folder.join("sunfleck")))
}

fn read(file: &Path, key: &str) -> Option<StepCosts> {
    let value: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    // Two keys may have one name, however unlikely.
    let is_own = value["of"] == key;
    is_own.then(|| StepCosts::from_json(&value["costs"].to_string()))?
}

fn write(file: &Path, key: &str, costs: &StepCosts) {
    let costs: Value = serde_json::from_str(&costs.to_json()).unwrap_or_default();
    let text = json!({ "of": key, "costs": costs }).to_string();
    let Some(folder) = file.parent() else {
        return;
    };
    // Written whole under a name of its own, so that nobody reads half of it. What fails is measured again.
    let part = file.with_extension(format!("part{}", std::process::id()));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&part, text));
    if written.and_then(|()| std::fs::rename(&part, file)).is_err() {
        let _ = std::fs::remove_file(&part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_come_back_for_their_key_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join(file_name("a"));
        let costs = StepCosts::new(&[(1, 0.04), (4, 0.05)], &[(0, 0.0), (3, 0.01)]).unwrap();
        assert_eq!(read(&file, "a"), None);
        write(&file, "a", &costs);
        assert_eq!(read(&file, "a"), Some(costs));
        assert_eq!(read(&file, "b"), None);
        std::fs::write(&file, "{").unwrap();
        assert_eq!(read(&file, "a"), None);
        assert_ne!(file_name("a"), file_name("b"));
    }

    #[test]
    fn own_variable_comes_first() {
        let variables = |name: &str| (name == "SUNFLECK_CACHE").then(|| "/scratch".into());
        assert_eq!(folder(variables), Some("/scratch".into()));
        assert_eq!(folder(|_| None), None);
    }
}
