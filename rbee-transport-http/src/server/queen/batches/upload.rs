//! Uploads of files, as `multipart/form-data`, written to the disk while they arrive.

use std::{
    fs::File,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use futures_util::Stream;
use http::header;
use http_body_util::BodyExt;
use multer::{Field, Multipart};
use rbee_core::{Error, ErrorKind, Result, TenantId, private_files::open_own};

use super::{
    disk::{self, blocking},
    file_store::FileStore,
    records::{FileRecord, later, new_file_id, now_ms},
};
use crate::wire::batches::FilePurpose;

/// How long the next part of a body may take to arrive.
const PART_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a whole upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// How much of a file is written at once.
const WRITE_BYTES: usize = 256 << 10;
/// How much of a body is read ahead: a head of a field cannot be longer.
const READ_AHEAD: usize = 256 << 10;
/// The most fields of a form, and the longest text of one.
const MOST_FIELDS: usize = 16;
const LONGEST_TEXT: usize = 1_024;
/// The longest name of a file, in characters.
const LONGEST_NAME: usize = 255;
/// The shortest time to live of a file, in seconds.
const SHORTEST_LIFE: u64 = 3_600;

/// Reads an upload, and adds the file. If that fails, nothing is left of it.
///
/// # Errors
/// [`ErrorKind::UnsupportedMediaType`], [`ErrorKind::InvalidRequest`] with the field, [`ErrorKind::PayloadTooLarge`],
/// [`ErrorKind::Storage`] if the disk is full, and the limits of the tenant.
pub(super) async fn receive(
    store: &Arc<FileStore>,
    tenant: Option<TenantId>,
    request: Request,
) -> Result<FileRecord> {
    let boundary = boundary(&request)?;
    let mut upload = Upload::begin(store.clone(), tenant)?;
    let received = async {
        let form = Form::read(request.into_body(), boundary, &mut upload).await?;
        upload.finish(form).await
    };
    tokio::time::timeout(UPLOAD_TIMEOUT, received).await.unwrap_or_else(|_| {
        let message = format!("the file did not arrive within {UPLOAD_TIMEOUT:?}");
        Err(Error::for_client(ErrorKind::InvalidRequest, message))
    })
}

fn boundary(request: &Request) -> Result<String> {
    let headers = request.headers();
    let refuse = |message: String| Err(Error::for_client(ErrorKind::UnsupportedMediaType, message));
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && coding != "identity"
    {
        return refuse(format!(
            "the content encoding is {coding:?}; an upload must not be encoded"
        ));
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default();
    match multer::parse_boundary(kind) {
        Ok(boundary) => Ok(boundary),
        Err(_) => {
            let shown: String = kind.chars().take(100).collect();
            refuse(format!(
                "the content type is {shown:?}; allowed is multipart/form-data with a boundary"
            ))
        }
    }
}

/// The fields of an upload, apart from the content of the file.
#[derive(Default)]
struct Form {
    purpose: Option<String>,
    filename: Option<String>,
    anchor: Option<String>,
    seconds: Option<String>,
}

impl Form {
    async fn read(body: Body, boundary: String, upload: &mut Upload) -> Result<Self> {
        let ahead = Arc::new(AtomicUsize::new(0));
        let mut fields = Multipart::new(parts(body, ahead.clone()), boundary);
        let (mut form, mut count) = (Self::default(), 0);
        while let Some(field) = fields.next_field().await.map_err(malformed)? {
            ahead.store(0, Ordering::Relaxed);
            count += 1;
            if count > MOST_FIELDS {
                return Err(invalid(
                    format!("the form has more than {MOST_FIELDS} fields"),
                    "form",
                ));
            }
            let name = field.name().unwrap_or_default().to_owned();
            let place = match name.as_str() {
                "file" => {
                    let given = field.file_name().unwrap_or("upload.jsonl");
                    let given = given.chars().take(LONGEST_NAME).collect();
                    if form.filename.replace(given).is_some() {
                        return Err(twice("file"));
                    }
                    upload.take(field, &ahead).await?;
                    continue;
                }
                "purpose" => &mut form.purpose,
                "expires_after[anchor]" => &mut form.anchor,
                "expires_after[seconds]" => &mut form.seconds,
                _ => {
                    let shown: String = name.chars().take(60).collect();
                    let message = format!("Unrecognized request argument supplied: {shown}");
                    return Err(invalid(message, shown));
                }
            };
            if place.replace(text(field, &name).await?).is_some() {
                return Err(twice(&name));
            }
        }
        Ok(form)
    }

    /// Checks the fields. Returns the name of the file, and its time to live.
    fn check(self, longest: Duration) -> Result<(String, Duration)> {
        match self.purpose.as_deref() {
            Some("batch") => {}
            None => {
                return Err(invalid("purpose is missing; it must be \"batch\"".into(), "purpose"));
            }
            Some(other) => {
                let shown: String = other.chars().take(60).collect();
                return Err(invalid(
                    format!("purpose is {shown:?}; allowed is \"batch\""),
                    "purpose",
                ));
            }
        }
        let Some(filename) = self.filename else {
            return Err(invalid("file is missing; it must be a file".into(), "file"));
        };
        let seconds = match (self.anchor, self.seconds) {
            (None, None) => return Ok((filename, longest)),
            (anchor, seconds) => {
                let seconds = seconds.unwrap_or_default();
                let anchor = anchor.as_deref().unwrap_or_default();
                lifetime("expires_after", anchor, seconds.parse().ok(), &seconds, longest)?
            }
        };
        Ok((filename, seconds))
    }
}

/// Checks the time to live that a client has chosen in the field `name`: `given` is its text, and `seconds` its value.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field.
pub(super) fn lifetime(
    name: &str,
    anchor: &str,
    seconds: Option<u64>,
    given: &str,
    longest: Duration,
) -> Result<Duration> {
    if anchor != "created_at" {
        let shown: String = anchor.chars().take(60).collect();
        let message = format!("{name}.anchor is {shown:?}; allowed is \"created_at\"");
        return Err(invalid(message, format!("{name}.anchor")));
    }
    let most = longest.as_secs();
    match seconds {
        Some(seconds) if (SHORTEST_LIFE.min(most)..=most).contains(&seconds) => {
            Ok(Duration::from_secs(seconds))
        }
        _ => {
            let shown: String = given.chars().take(60).collect();
            let message =
                format!("{name}.seconds is {shown}; allowed is {SHORTEST_LIFE} to {most}");
            Err(invalid(message, format!("{name}.seconds")))
        }
    }
}

/// The parts of a body. It ends with an error if much of it arrives in which no field begins or goes on: such a head
/// of a field would be held in memory.
fn parts(body: Body, ahead: Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes>> + Send {
    futures_util::stream::unfold((body, ahead, false), async |(mut body, ahead, failed)| {
        if failed {
            return None;
        }
        // The parser reads for as long as there is something to read, and only then gives out what it has.
        tokio::task::yield_now().await;
        let part = loop {
            let refuse = |message| Err(Error::for_client(ErrorKind::InvalidRequest, message));
            match tokio::time::timeout(PART_TIMEOUT, body.frame()).await {
                Err(_) => {
                    break refuse(format!("the next part did not arrive within {PART_TIMEOUT:?}"));
                }
                Ok(None) => return None,
                Ok(Some(Err(cause))) => break refuse(format!("the body did not arrive: {cause}")),
                Ok(Some(Ok(frame))) => {
                    let Ok(part) = frame.into_data() else { continue };
                    // One part may be longer: it is in memory already.
                    if ahead.fetch_add(part.len(), Ordering::Relaxed) > READ_AHEAD {
                        break refuse(format!(
                            "the head of a field is longer than {READ_AHEAD} bytes"
                        ));
                    }
                    break Ok(part);
                }
            }
        };
        let failed = part.is_err();
        Some((part, (body, ahead, failed)))
    })
}

async fn text(mut field: Field<'_>, name: &str) -> Result<String> {
    let mut text = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(malformed)? {
        text.extend_from_slice(&chunk);
        if text.len() > LONGEST_TEXT {
            return Err(invalid(
                format!("{name} is longer than {LONGEST_TEXT} bytes"),
                name.to_owned(),
            ));
        }
    }
    String::from_utf8(text)
        .map_err(|_| invalid(format!("{name} is not a text in UTF-8"), name.to_owned()))
}

fn malformed(error: multer::Error) -> Error {
    let error = match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<Error>() {
            Ok(error) => return *error,
            Err(cause) => multer::Error::StreamReadFailed(cause),
        },
        error => error,
    };
    Error::for_client(
        ErrorKind::InvalidRequest,
        format!("the body is not a form of type multipart/form-data: {error}"),
    )
}

fn invalid(message: String, param: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(param)
}

fn twice(name: &str) -> Error {
    invalid(format!("{name} is there more than once; send it once"), name.to_owned())
}

/// A file that arrives. Dropping it removes what was written.
struct Upload {
    store: Arc<FileStore>,
    tenant: Option<TenantId>,
    id: String,
    /// `None` while it is being written to, and after a failure.
    file: Option<File>,
    bytes: u64,
}

impl Upload {
    fn begin(store: Arc<FileStore>, tenant: Option<TenantId>) -> Result<Self> {
        store.begin_upload(&tenant)?;
        Ok(Self { store, tenant, id: new_file_id(), file: None, bytes: 0 })
    }

    fn part(&self) -> std::path::PathBuf {
        self.store.content(&self.id).with_extension("part")
    }

    /// Writes the content of the file.
    async fn take(&mut self, mut field: Field<'_>, ahead: &AtomicUsize) -> Result<()> {
        let (path, free) = (self.part(), self.store.limits().free_bytes);
        let directory = self.store.directory().to_owned();
        let created = blocking(move || {
            disk::check_free(&directory, free).map_err(|cause| disk::failed(&directory, cause))?;
            open_own(&path, File::options().write(true).create_new(true))
                .map_err(|cause| disk::failed(&path, cause))
        });
        self.file = Some(created.await?);
        let mut buffer = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(malformed)? {
            ahead.store(0, Ordering::Relaxed);
            let (most, bytes) = (self.store.limits().file_bytes, chunk.len() as u64);
            if self.bytes + bytes > most {
                let message = format!("the file is larger than {most} bytes");
                return Err(
                    Error::for_client(ErrorKind::PayloadTooLarge, message).with_param("file")
                );
            }
            self.store.take_bytes(&self.tenant, bytes)?;
            self.bytes += bytes;
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= WRITE_BYTES {
                self.write(std::mem::take(&mut buffer)).await?;
            }
        }
        self.write(buffer).await
    }

    async fn write(&mut self, buffer: Vec<u8>) -> Result<()> {
        let (path, free) = (self.part(), self.store.limits().free_bytes);
        let Some(mut file) = self.file.take() else { return Ok(()) };
        let written = blocking(move || {
            disk::check_free(&path, free)
                .and_then(|()| file.write_all(&buffer))
                .map_err(|cause| disk::failed(&path, cause))?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }

    /// Checks the form, and adds the file.
    async fn finish(&mut self, form: Form) -> Result<FileRecord> {
        let (filename, lifetime) = form.check(self.store.limits().retention)?;
        let now = now_ms();
        let record = FileRecord {
            id: self.id.clone(),
            tenant: self.tenant.clone(),
            filename,
            purpose: FilePurpose::Batch,
            bytes: self.bytes,
            created_at_ms: now,
            expires_at_ms: later(now, lifetime),
        };
        let (part, content, file) = (self.part(), self.store.content(&self.id), self.file.take());
        let kept = blocking(move || {
            let kept = file.map_or(Ok(()), |file| file.sync_all());
            kept.and_then(|()| std::fs::rename(&part, &content))
                .and_then(|()| disk::sync_parent(&content))
                .map_err(|cause| disk::failed(&content, cause))
        });
        kept.await?;
        if let Err(error) = self.store.add(record.clone()).await {
            let _ = disk::remove(&self.store.content(&self.id));
            return Err(error);
        }
        Ok(record)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.file = None;
        // It is there only if the upload has failed or its client is gone.
        if let Err(cause) = disk::remove(&self.part()) {
            tracing::warn!(file = self.id, %cause, "an unfinished upload cannot be removed");
        }
        self.store.end_upload(&self.tenant, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: [Option<&str>; 4]) -> Form {
        let [purpose, filename, anchor, seconds] = fields.map(|field| field.map(str::to_owned));
        Form { purpose, filename, anchor, seconds }
    }

    #[test]
    fn each_field_of_the_form_is_checked_by_its_name() {
        const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);
        let check = |fields| form(fields).check(MONTH);
        let (batch, file, anchor) = (Some("batch"), Some("a"), Some("created_at"));
        assert_eq!(check([batch, file, None, None]).unwrap(), ("a".into(), MONTH));
        let hour = check([batch, file, anchor, Some("3600")]).unwrap();
        assert_eq!(hour.1, Duration::from_secs(3_600));
        for (fields, param) in [
            ([None, file, None, None], "purpose"),
            ([Some("fine-tune"), file, None, None], "purpose"),
            ([batch, None, None, None], "file"),
            ([batch, file, None, Some("3600")], "expires_after.anchor"),
            ([batch, file, Some("last_active_at"), Some("3600")], "expires_after.anchor"),
            ([batch, file, anchor, None], "expires_after.seconds"),
            ([batch, file, anchor, Some("3599")], "expires_after.seconds"),
            ([batch, file, anchor, Some("2592001")], "expires_after.seconds"),
            ([batch, file, anchor, Some("x")], "expires_after.seconds"),
        ] {
            assert_eq!(check(fields).unwrap_err().param(), Some(param), "{fields:?}");
        }
    }
}
