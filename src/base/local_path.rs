//! Paths that are not addresses: `s3://bucket/x` is not a file in a folder `s3:`.

use std::io;
use std::path::Path;

/// Refuses an address such as `s3://bucket/x`. A file in a folder named like a scheme is `./s3:/x`.
///
/// # Errors
/// If the path begins with a scheme.
pub fn check_local(path: &Path) -> io::Result<()> {
    let Some(scheme) = scheme(&path.to_string_lossy()).map(str::to_owned) else { return Ok(()) };
    let problem = format!("expected the path of a local file or folder, found an address with {scheme}://");
    Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
}

/// Returns the scheme that `text` begins with, as RFC 3986 defines it, if `://` follows.
pub fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_part = |character: char| character.is_ascii_alphanumeric() || "+-.".contains(character);
    let is_scheme =
        scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.chars().all(is_part);
    is_scheme.then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_no_paths() {
        for address in [
            "s3://b/x",
            "gs://b",
            "https://host/x.npy",
            "file:///x",
            "abfss://a@b/c",
            "S3A://x",
            "svn+ssh://x",
        ] {
            let error = check_local(Path::new(address)).unwrap_err().to_string();
            let (scheme, _) = address.split_once(':').unwrap();
            assert!(error.ends_with(&format!("found an address with {scheme}://")), "{error}");
        }
        for path in
            ["", "x", "/x", "s3:/x", "./s3://b/x", "a b://c", "://x", "3s://x", "/tmp/http://x", "day=3://x"]
        {
            assert!(check_local(Path::new(path)).is_ok(), "{path}");
        }
    }
}
