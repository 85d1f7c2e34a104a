//! nginx and haproxy: the configurations they run with.
//!
//! # Rules
//! 1. One worker, in the foreground, on loopback, without logs; everything it writes is below one folder.
//! 2. The same work as the other peers' where the program can: the same bodies and types, a current `Date`, a
//!    `Server`, connections kept without end.
//! 3. Started by root, the worker gives that up: it is nobody.
//!
//! Not here: where the programs are (`subjects`), starting them (`server`).

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::loads::Target;

/// Connections of the one worker: 10,000 at rest, and some to spare, within a usual limit of 20,000 open
/// files.
const CONNECTIONS_MAX: u32 = 16_384;

/// Pending connections, as for the other servers.
const BACKLOG: u32 = 4096;

/// Who a worker is that root has started: the user, and its group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Nobody {
    pub(super) group: String,
}

impl Nobody {
    /// `None` unless this process is root: then there is nothing to give up.
    pub(super) fn if_root() -> Option<Nobody> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        // Debian calls it nogroup, others nobody.
        let group =
            if groups.lines().any(|line| line.starts_with("nogroup:")) { "nogroup" } else { "nobody" };
        Some(Nobody { group: group.to_owned() })
    }
}

/// nginx: fixed answers by `return`, large bodies by `sendfile` out of `blob`, which is in the page cache.
///
/// `tcp_nopush` sends the head together with the beginning of the file; `open_file_cache` opens it once.
pub(super) fn nginx(port: u16, folder: &Path, blob: &Path, nobody: Option<&Nobody>) -> String {
    let (folder, blob) = (folder.display(), blob.display());
    let user = nobody.map_or_else(String::new, |who| format!("user nobody {};\n", who.group));
    let mut text = format!(
        "{user}daemon off;\n\
         worker_processes 1;\n\
         pid {folder}/nginx.pid;\n\
         error_log stderr crit;\n\
         events {{ worker_connections {CONNECTIONS_MAX}; }}\n\
         http {{\n\
         \x20 access_log off;\n\
         \x20 keepalive_requests 2147483647;\n\
         \x20 keepalive_timeout 1h;\n\
         \x20 keepalive_time 24h;\n\
         \x20 server_tokens off;\n\
         \x20 sendfile on;\n\
         \x20 sendfile_max_chunk 0;\n\
         \x20 tcp_nopush on;\n\
         \x20 tcp_nodelay on;\n\
         \x20 open_file_cache max=4 inactive=1h;\n\
         \x20 open_file_cache_valid 1h;\n"
    );
    for what in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "  {what}_temp_path {folder}/{what};");
    }
    let _ = write!(
        text,
        "  server {{\n\
         \x20   listen 127.0.0.1:{port} backlog={BACKLOG};\n\
         \x20   location = /plaintext {{ default_type text/plain; return 200 'Hello, World!'; }}\n\
         \x20   location = /json {{ default_type application/json; return 200 '{json}'; }}\n\
         \x20   location = /blob {{ types {{ }} default_type application/octet-stream; alias {blob}; }}\n\
         \x20   location = /file {{ types {{ }} default_type application/octet-stream; alias {blob}; }}\n\
         \x20   location / {{ return 404; }}\n\
         \x20 }}\n\
         }}\n",
        json = String::from_utf8_lossy(&Target::Json.body()),
    );
    text
}

/// haproxy: fixed answers by `http-request return`. Its body is bounded by a buffer of 16 KiB, and nothing
/// returns the body of the request: no echo, no blob, no file.
pub(super) fn haproxy(port: u16, nobody: Option<&Nobody>) -> String {
    let user =
        nobody.map_or_else(String::new, |who| format!("\x20   user nobody\n\x20   group {}\n", who.group));
    let fields = "hdr Server hap hdr Date \"%[date,http_date]\"";
    let json = String::from_utf8_lossy(&Target::Json.body()).replace('"', "\\\"");
    format!(
        "global\n\
         {user}\
         \x20   nbthread 1\n\
         \x20   maxconn {CONNECTIONS_MAX}\n\
         \x20   no strict-limits\n\
         defaults\n\
         \x20   mode http\n\
         \x20   timeout client 1h\n\
         \x20   timeout connect 1h\n\
         \x20   timeout server 1h\n\
         \x20   timeout http-request 1h\n\
         \x20   timeout http-keep-alive 1h\n\
         \x20   maxconn {CONNECTIONS_MAX}\n\
         frontend peer\n\
         \x20   bind 127.0.0.1:{port}\n\
         \x20   backlog {BACKLOG}\n\
         \x20   http-request return status 200 content-type text/plain string \"Hello, World!\" {fields} \
         if {{ path /plaintext }}\n\
         \x20   http-request return status 200 content-type application/json string \"{json}\" {fields} \
         if {{ path /json }}\n\
         \x20   http-request return status 404\n"
    )
}

/// Makes `folder`, which anybody may enter, and writes `text` into it as `name`.
///
/// # Errors
/// What the file system refused.
pub(super) fn write(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let file = folder.join(name);
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_writes_only_below_its_folder_and_keeps_connections() {
        let text = nginx(8123, Path::new("/tmp/x"), Path::new("/tmp/b"), None);
        assert!(text.contains("listen 127.0.0.1:8123 "), "{text}");
        for line in
            ["daemon off;", "worker_processes 1;", "access_log off;", "keepalive_requests 2147483647;"]
        {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(text.matches(" /tmp/x/").count(), 6, "pid and five folders: {text}");
        assert_eq!(text.matches("alias /tmp/b;").count(), 2);
        assert!(!text.contains("user "), "{text}");
    }

    #[test]
    fn root_gives_itself_up_in_both() {
        let nobody = Nobody { group: "nogroup".to_owned() };
        let of_nginx = nginx(1, Path::new("/x"), Path::new("/b"), Some(&nobody));
        assert!(of_nginx.starts_with("user nobody nogroup;\n"), "{of_nginx}");
        let of_haproxy = haproxy(1, Some(&nobody));
        assert!(of_haproxy.starts_with("global\n    user nobody\n    group nogroup\n"), "{of_haproxy}");
    }

    #[test]
    fn haproxy_answers_two_paths_with_a_date_and_nothing_else() {
        let text = haproxy(8124, None);
        assert!(text.contains("bind 127.0.0.1:8124\n"), "{text}");
        assert_eq!(text.matches("%[date,http_date]").count(), 2);
        assert!(text.contains(r#"string "{\"message\":\"Hello, World!\"}""#), "{text}");
        assert!(text.ends_with("http-request return status 404\n"), "{text}");
        assert!(!text.contains("user "), "{text}");
    }
}
