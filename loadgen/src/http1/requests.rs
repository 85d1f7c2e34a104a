//! From what the user asked for to bytes: checked once, written many times.
//!
//! # Rules
//! 1. What could break the framing of a request is refused here: no CR, LF, NUL or other control character in
//!    method, path, names and values; no `Content-Length` or `Transfer-Encoding` by hand.
//! 2. A request that never differs is one text, its body included.
//! 3. Added unless given: `Host`, `User-Agent`. Added: `Content-Length` where there is a body, or where the
//!    method makes a server expect one (RFC 9110, 8.6); `Connection: close` where each connection carries one
//!    request.
//!
//! Not here: placeholders (`template`), the choice among requests (`pick`).

use corelane_base::Rng;

use super::Ask;
use super::head::{is_text, is_token_byte, trim};
use super::known::SLOTS_MAX;
use super::template::{Template, write_decimal};
use crate::model::RequestSpec;

/// One request, ready to be written.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) ask: Ask,
    /// All of it; or, with `body`, all up to the value of `Content-Length`, which comes last.
    text: Template,
    /// A body whose length may differ.
    body: Option<Template>,
}

impl Request {
    /// Request number `kind` of those that are asked for.
    ///
    /// # Errors
    /// A text that names the request, what is wrong, and what to write.
    pub(super) fn new(
        kind: u16,
        spec: &RequestSpec,
        host: &str,
        close_each: bool,
    ) -> Result<Request, String> {
        let build = Build { spec, text: Template::default() };
        build.request(kind, host, close_each).map_err(|why| match &*spec.name {
            "" => format!("request {}: {why}", kind + 1),
            name => format!("request `{name}`: {why}"),
        })
    }

    /// The whole text, where it never differs.
    pub(super) fn as_text(&self) -> Option<&[u8]> {
        if self.body.is_some() { None } else { self.text.as_text() }
    }

    /// Appends it as it is in request `number`, whose random numbers are `rng`. `body` is a buffer to use.
    pub(super) fn write(&self, number: u64, rng: &mut Rng, body: &mut Vec<u8>, out: &mut Vec<u8>) {
        self.text.write(number, rng, out);
        let Some(template) = &self.body else { return };
        body.clear();
        template.write(number, rng, body);
        write_decimal(body.len() as u64, out);
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }
}

/// A request on its way.
struct Build<'a> {
    spec: &'a RequestSpec,
    text: Template,
}

impl Build<'_> {
    fn request(mut self, kind: u16, host: &str, close_each: bool) -> Result<Request, String> {
        let spec = self.spec;
        let path = self.template(spec.path.as_bytes()).map_err(|why| format!("path: {why}"))?;
        check_method(&spec.method)?;
        check_path(&spec.method, &spec.path, &path)?;
        self.text.push_text(spec.method.as_bytes());
        self.text.push_text(b" ");
        self.text.push(path);
        self.text.push_text(b" HTTP/1.1\r\n");

        let given = |name: &str| spec.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count();
        match given("host") {
            0 => self.field("Host", host)?,
            1 => {}
            count => return Err(format!("header `Host` is given {count} times; a request has one")),
        }
        for (name, value) in &spec.headers {
            self.field(name, value)?;
        }
        if given("user-agent") == 0 {
            self.text
                .push_text(concat!("User-Agent: loadgen/", env!("CARGO_PKG_VERSION"), "\r\n").as_bytes());
        }
        if close_each {
            self.text.push_text(b"Connection: close\r\n");
        }
        let closes = spec.headers.iter().any(|(name, value)| {
            let mut options = value.split(',').map(str::trim);
            name.eq_ignore_ascii_case("connection") && options.any(|o| o.eq_ignore_ascii_case("close"))
        });

        let body = self.template(&spec.body).map_err(|why| format!("body: {why}"))?;
        let body = self.end(body);
        #[allow(clippy::cast_possible_truncation)] // below SLOTS_MAX
        let slot = (usize::from(kind) % SLOTS_MAX) as u8;
        let ask = Ask { kind, slot, head: spec.method == "HEAD", close: close_each || closes };
        Ok(Request { ask, text: self.text, body })
    }

    /// The end of the head, and the body if it never differs; gives it back if it may.
    fn end(&mut self, body: Template) -> Option<Template> {
        let Some(text) = body.as_text() else {
            self.text.push_text(b"Content-Length: ");
            return Some(body);
        };
        if !text.is_empty() || matches!(&*self.spec.method, "POST" | "PUT" | "PATCH") {
            self.text.push_text(format!("Content-Length: {}\r\n", text.len()).as_bytes());
        }
        self.text.push_text(b"\r\n");
        self.text.push_text(text);
        None
    }

    fn template(&self, text: &[u8]) -> Result<Template, String> {
        if self.spec.template {
            return Template::parse(text);
        }
        let mut template = Template::default();
        template.push_text(text);
        Ok(template)
    }

    fn field(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(format!(
                "header name {name:?} has other characters than letters, digits and !#$%&'*+-.^_`|~"
            ));
        }
        if ["content-length", "transfer-encoding"].iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            return Err(format!(
                "header `{name}` cannot be given: it is written from the body; leave it out"
            ));
        }
        let template =
            self.template(trim(value.as_bytes())).map_err(|why| format!("header `{name}`: {why}"))?;
        if !template.texts().all(is_text) {
            return Err(format!("header `{name}`: value {value:?} has a control character; take it out"));
        }
        self.text.push_text(name.as_bytes());
        self.text.push_text(b": ");
        self.text.push(template);
        self.text.push_text(b"\r\n");
        Ok(())
    }
}

fn check_method(method: &str) -> Result<(), String> {
    if method.is_empty() || !method.bytes().all(is_token_byte) {
        return Err(format!("method {method:?} is none; write one like GET"));
    }
    if method == "CONNECT" {
        return Err("method `CONNECT` asks for a tunnel, and there is no HTTP in it to measure".into());
    }
    Ok(())
}

fn check_path(method: &str, given: &str, path: &Template) -> Result<(), String> {
    if path.as_text() == Some(b"*") {
        return if method == "OPTIONS" {
            Ok(())
        } else {
            Err(format!("path `*` goes with OPTIONS alone (RFC 9112, 3.2.4), not with `{method}`"))
        };
    }
    if path.first_text().first() != Some(&b'/') {
        return Err(format!("path {given:?} does not begin with `/`"));
    }
    let bad = path.texts().flatten().copied().find(|&byte| !byte.is_ascii_graphic() || byte == b'#');
    match bad {
        None => Ok(()),
        Some(b'#') => Err(format!(
            "path {given:?} has a fragment, which is never sent; leave out the `#...`, or write %23"
        )),
        Some(byte) => Err(format!("path {given:?} has the byte 0x{byte:02x}; write it as %{byte:02X}")),
    }
}
