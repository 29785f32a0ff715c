//! Sessions in files.

use std::{error::Error, path::Path};

use sunfleck::generate::Session;

/// Goes on with the session in a file.
pub fn load(session: &mut Session, path: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(path)
        .map_err(|error| format!("the session {} can't be read: {error}", path.display()))?;
    (session.restore(&bytes)).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Writes the session to a file, whole or not at all.
pub async fn save(session: &Session, path: &Path) -> Result<(), Box<dyn Error>> {
    let bytes = session.save().await?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let written = std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&part);
        format!("the session can't be saved to {}: {error}", path.display()).into()
    })
}
