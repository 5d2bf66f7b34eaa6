//! A file that any server has, for whoever asks for it by its URL.

use std::fmt;
use std::io::Read;

use ureq::http::Uri;

use crate::Registries;
use crate::auth::Authenticator;
use crate::credentials::Credentials;
use crate::endpoint::{Call, Endpoint};
use crate::error::RegistryError;
use crate::http::Http;
use crate::pace::Paced;
use crate::target::authority;

/// A file while it comes.
pub struct Download {
    /// Bytes that there are to be, where the server says so.
    pub length: Option<u64>,
    content: Paced<ureq::BodyReader<'static>>,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.content.read(buf)
    }
}

impl Registries {
    /// Opens what is at an http or https URL. No credentials are shown.
    pub fn download(&self, url: &str) -> Result<Download, RegistryError> {
        let uri: Uri = url.parse().map_err(|_| RegistryError::Url(url.to_owned()))?;
        let host = authority(&uri);
        let http = Http::new(uri.clone(), self.config.host(&host), self.patience);
        let nobody = Authenticator::new(Credentials::default(), &host, "");
        let endpoint = Endpoint::of_registry(http, nobody, self.patience);
        let response = endpoint.successful(endpoint.call(&Call::get(uri))?)?;
        let length = response.body().content_length();
        let content = Paced::new(response.into_body().into_reader(), self.patience);
        Ok(Download { length, content })
    }
}
