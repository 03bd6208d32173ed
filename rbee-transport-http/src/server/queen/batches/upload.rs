//! Uploads of files, as `multipart/form-data`, written to the disk while they arrive.

mod writing;

use std::{
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
use rbee_core::{Error, ErrorKind, Result, TenantId};
use tokio::time::Instant;

use super::{Batches, disk::to_the_end, records::FileRecord};
use writing::Upload;

/// An upload ends if fewer bytes than these arrive in this time of waiting for the client. So slow clients do not hold
/// the places of others.
const SLOWEST_BYTES: usize = 30 << 10;
const SLOWEST_TIME: Duration = Duration::from_secs(30);
/// How long a whole upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60 * 60);
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
    batches: &Arc<Batches>,
    tenant: Option<TenantId>,
    request: Request,
) -> Result<FileRecord> {
    let boundary = boundary(&request)?;
    let mut upload = Upload::begin(batches.files.clone(), tenant)?;
    let received = Form::read(request.into_body(), boundary, &mut upload);
    let form = tokio::time::timeout(UPLOAD_TIMEOUT, received).await.unwrap_or_else(|_| {
        let message = format!("the file did not arrive within {UPLOAD_TIMEOUT:?}");
        Err(Error::for_client(ErrorKind::InvalidRequest, message))
    })?;
    let batches = batches.clone();
    to_the_end(async move {
        let finished = upload.finish(form).await;
        // Until then the directory stays locked.
        drop(batches);
        finished
    })
    .await
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

/// The parts of a body. It ends with an error if much of it arrives in which no field begins or goes on (such a head
/// of a field would be held in memory), or if it arrives too slowly.
fn parts(body: Body, ahead: Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes>> + Send {
    let arriving = Arriving { body, ahead, waited: Duration::ZERO, bytes: 0 };
    futures_util::stream::unfold(Some(arriving), async |arriving| {
        let mut arriving = arriving?;
        // The parser reads for as long as there is something to read, and only then gives out what it has.
        tokio::task::yield_now().await;
        match arriving.next().await {
            Ok(part) => Some((Ok(part?), Some(arriving))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// A body that arrives.
struct Arriving {
    body: Body,
    /// The bytes since a field began or went on.
    ahead: Arc<AtomicUsize>,
    /// How long the client was waited for, and what came, since the rate was checked.
    waited: Duration,
    bytes: usize,
}

impl Arriving {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let refuse = |message| Err(Error::for_client(ErrorKind::InvalidRequest, message));
        loop {
            let (begin, left) = (Instant::now(), SLOWEST_TIME.saturating_sub(self.waited));
            let arrived = tokio::time::timeout(left, self.body.frame()).await;
            self.waited += begin.elapsed();
            let part = match arrived {
                Err(_) => None,
                Ok(None) => return Ok(None),
                Ok(Some(Err(cause))) => return refuse(format!("the body did not arrive: {cause}")),
                Ok(Some(Ok(frame))) => frame.into_data().ok(),
            };
            let bytes = part.as_ref().map_or(0, Bytes::len);
            self.bytes = self.bytes.saturating_add(bytes);
            if self.waited >= SLOWEST_TIME {
                if self.bytes < SLOWEST_BYTES {
                    return refuse(format!(
                        "{} bytes arrived within {SLOWEST_TIME:?}; an upload must be faster than {SLOWEST_BYTES} bytes in \
                         this time",
                        self.bytes
                    ));
                }
                (self.waited, self.bytes) = (Duration::ZERO, 0);
            }
            let Some(part) = part else { continue };
            // One part may be longer: it is in memory already.
            if self.ahead.fetch_add(bytes, Ordering::Relaxed) > READ_AHEAD {
                return refuse(format!("the head of a field is longer than {READ_AHEAD} bytes"));
            }
            return Ok(Some(part));
        }
    }
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    fn form(fields: [Option<&str>; 4]) -> Form {
        let [purpose, filename, anchor, seconds] = fields.map(|field| field.map(str::to_owned));
        Form { purpose, filename, anchor, seconds }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_arrives_too_slowly_is_refused_and_one_that_waits_for_the_disk_is_not() {
        let arriving = |bytes_per_second: usize, seconds: usize| {
            let parts = futures_util::stream::iter(0..seconds).then(move |_| async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, Error>(Bytes::from(vec![b'x'; bytes_per_second]))
            });
            parts_of(Body::from_stream(parts))
        };
        let slow: Vec<_> = arriving(1_000, 100).collect().await;
        assert!((29..=30).contains(&(slow.len() - 1)), "{}", slow.len());
        let error = slow.into_iter().find_map(Result::err).unwrap();
        assert!(error.message().contains("within 30s"), "{error}");
        assert!(arriving(1_100, 100).all(async |part| part.is_ok()).await);
        // Nobody reads for a while.
        let disk = arriving(1_100, 100).then(async |part| {
            tokio::time::sleep(Duration::from_secs(20)).await;
            part
        });
        assert!(disk.all(async |part| part.is_ok()).await);
    }

    fn parts_of(body: Body) -> impl Stream<Item = Result<Bytes>> {
        // As if each part were of a field.
        let ahead = Arc::new(AtomicUsize::new(0));
        parts(body, ahead.clone()).inspect(move |_| ahead.store(0, Ordering::Relaxed))
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
