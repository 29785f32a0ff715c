//! Which files of a folder have the weights.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    path::{Component, Path},
};

use super::{HuggingFaceError, json, safetensors};
use crate::model::TensorInfo;

const INDEX: &str = "model.safetensors.index.json";

/// A weight file and what its header says.
pub(super) struct Found {
    pub file: File,
    pub len: u64,
    /// Offsets count from the start of the file.
    pub tensors: Vec<TensorInfo>,
}

/// All weight files: those of the index, or `model.safetensors` where there is none.
pub(super) fn files(folder: &Path) -> Result<Vec<Found>, HuggingFaceError> {
    let Some(index) = json(folder, INDEX)? else {
        return Ok(vec![open(folder, "model.safetensors")?]);
    };
    let map = index["weight_map"].as_object();
    let map = map.ok_or_else(|| HuggingFaceError::Value {
        file: INDEX,
        key: "weight_map".to_owned(),
        given: "missing".to_owned(),
        needed: "names of tensors with the file of each".to_owned(),
    })?;
    let mut wanted: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, file) in map {
        let file = file.as_str().unwrap_or_default();
        let mut parts = Path::new(file).components();
        let plain = matches!(
            (parts.next(), parts.next()),
            (Some(Component::Normal(_)), None)
        );
        if !plain {
            let given = file.chars().take(64).collect();
            return Err(HuggingFaceError::FileName { given });
        }
        wanted.entry(file).or_default().push(tensor);
    }
    let mut files = Vec::new();
    for (name, tensors) in wanted {
        let mut found = open(folder, name)?;
        let there: HashSet<&str> = found.tensors.iter().map(|t| t.name.as_str()).collect();
        if let Some(missing) = tensors.iter().find(|tensor| !there.contains(*tensor)) {
            return Err(HuggingFaceError::TensorMissing {
                file: folder.join(name).display().to_string(),
                tensor: (*missing).to_owned(),
            });
        }
        // What the index doesn't name is not of the model.
        let named: HashSet<&str> = tensors.into_iter().collect();
        found.tensors.retain(|t| named.contains(t.name.as_str()));
        files.push(found);
    }
    Ok(files)
}

fn open(folder: &Path, name: &str) -> Result<Found, HuggingFaceError> {
    let path = folder.join(name);
    let label = path.display().to_string();
    let mut file = File::open(&path).map_err(|source| HuggingFaceError::Io {
        file: label.clone(),
        source,
    })?;
    let (tensors, len) = safetensors::read(&label, &mut file)?;
    Ok(Found { file, len, tensors })
}
