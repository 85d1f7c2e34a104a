//! The configuration: layers, the file and what is said about mistakes in it, docs that agree.
//!
//! Not here: flags as the command line reads them (`cli.rs`), what the host refuses (`preflight.rs`).

#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corelane::Limits;
use corelane::config::{
    Accept, CacheConfig, Config, ConfigError, Layers, Listen, LogFormat, Numa, Origin, Secret, Settings,
    ShardHost, SnapshotConfig, UpstreamConfig, keys,
};
use corelane::services::cache::snapshot::OnError;
use corelane::services::cache::store::Eviction;
use corelane::services::cache::upstream::{Mode, Url};

/// The settings that a file of this text makes, or what is said about it after the name of the file.
fn from_file(text: &str) -> Result<Settings, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    let layers = Layers { file: Some(path.clone()), ..Layers::default() };
    let says = |error: ConfigError| error.to_string().replace(&path.display().to_string(), "node.toml");
    Config::load(&layers).map(|config| config.settings().clone()).map_err(says)
}

#[track_caller]
fn refused(text: &str, says: &str) {
    assert_eq!(from_file(text), Err(says.to_owned()), "{text:?}");
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/corelane.example.toml")
}

/// Names of the fields of `Limits`, from its own debug output.
fn fields() -> Vec<String> {
    let text = format!("{:#?}", Limits::default());
    let names = text.lines().filter_map(|line| line.strip_prefix("    ")?.split_once(": "));
    names.filter(|(name, _)| !name.starts_with(' ')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_field_of_limits_has_a_key_and_no_key_is_of_something_else() {
    let keys: Vec<String> =
        keys::all().filter_map(|key| key.name.strip_prefix("limits.")).map(str::to_owned).collect();
    assert!(keys.len() > 30);
    assert_eq!(keys, fields(), "in the order of the fields");
}

#[test]
fn the_example_is_every_key_with_its_default() {
    let text = std::fs::read_to_string(example()).unwrap();
    assert_eq!(from_file(&text), Ok(Settings::default()));
    let printed = Config::load(&Layers::default()).unwrap().to_toml();
    assert!(text == printed, "make it anew: cargo run -- --print-config > docs/corelane.example.toml");
    for key in keys::all() {
        let line = format!("{} = {}", key.short(), key.write(&Settings::default()));
        assert_eq!(text.lines().filter(|l| **l == line).count(), 1, "{line}");
    }
}

#[test]
fn the_page_has_a_row_for_every_key_flag_and_variable() {
    let page = std::fs::read_to_string(example().with_file_name("CONFIG.md")).unwrap();
    for key in keys::all().filter(|key| !key.name.starts_with("limits.")) {
        let mut row = format!("| `{}` | `{}` |", key.name, key.write(&Settings::default()));
        match key.flag {
            Some(keys::Flag::Value { long, value } | keys::Flag::Values { long, value }) => {
                write!(row, " `--{long} {value}` |").unwrap();
            }
            Some(flag) => write!(row, " `--{}` |", flag.long()).unwrap(),
            None => row.push_str(" |"),
        }
        match key.env {
            Some(env) => write!(row, " `{env}` |").unwrap(),
            None => row.push_str(" |"),
        }
        assert!(page.lines().any(|line| line.starts_with(&row)), "CONFIG.md needs a row {row}");
    }
}

#[test]
fn a_key_of_every_kind_is_read_from_a_file() {
    let settings = from_file(
        "listen = '[::1]:81'\ncpus = [3, 0]\npin = false\nlog = 'warn'\nlog_format = 'json'\nserver_field = ''\n\
         limits.headers_max = 0x40\n[limits.\"body_bytes_max\"]\n",
    );
    assert!(settings.is_err_and(|says| says.contains("limits.body_bytes_max")), "a table is no size");
    let settings = from_file(
        "listen = ['[::1]:81', 'unix:/run/c.sock']\nshards = 2\ncpus = [3, 0]\nsmt = true\npin = false\n\
         host = 'glommio'\nnuma = 'off'\nhuge_pages = true\ncpu_wake_time = '2us'\naccept = 'balanced'\nproxy_protocol = ['10.0.0.0/8']\n\
         trusted_proxies = '::1, 192.0.2.0/24'\nadmin = '0.0.0.0:99'\nadmin_token = '0123456789abcdef'\n\
         log = 'warn'\nlog_format = 'json'\nserver_field = ''\n\
         [resp]\nlisten = '127.0.0.1:6379'\nusers = ['alice on +@all', ' bob ']\ndebug_commands = true\n\
         [cache]\nmemory_max = '1GiB'\neviction = 'lru'\nhttp = true\n\
         snapshot_dir = '/var/lib/c'\nsnapshot_every = '5m'\nsnapshot_at_drain = false\nsnapshot_on_error = 'empty'\n\
         [cache.upstream]\nurl = 'redis://:secret@cache.example:7000/2'\nmode = 'behind'\nttl_max = '1m'\n\
         queue_bytes_max = '1MiB'\ntracking = false\n\
         [limits]\nheaders_max = 0x40\nbody_bytes_max = '2MiB'\npool_heap_bytes_max = 1_000\nidle_time = '5m'\n",
    )
    .unwrap();
    let limits = Limits {
        headers_max: 64,
        body_bytes_max: 2 << 20,
        pool_heap_bytes_max: 1_000,
        idle_time: Duration::from_secs(300),
        ..Limits::default()
    };
    let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    let expected = Settings {
        listen: vec![Listen::Tcp("[::1]:81".parse().unwrap()), Listen::Unix("/run/c.sock".into())],
        shards: Some(2),
        cpus: Some(vec![0, 3]),
        smt: true,
        pin: false,
        host: ShardHost::Glommio,
        numa: Numa::Off,
        huge_pages: true,
        cpu_wake_time: Duration::from_micros(2),
        accept: Accept::Balanced,
        steer: false,
        proxy_protocol: networks(&["10.0.0.0/8"]),
        trusted_proxies: networks(&["::1/128", "192.0.2.0/24"]),
        admin: Some("0.0.0.0:99".parse().unwrap()),
        admin_token: Secret::new("0123456789abcdef"),
        log: "warn".to_owned(),
        log_format: LogFormat::Json,
        server_field: String::new(),
        resp_password: Secret::default(),
        resp_users: vec![Secret::new("alice on +@all"), Secret::new("bob")],
        resp_debug_commands: true,
        resp_listen: vec![Listen::Tcp("127.0.0.1:6379".parse().unwrap())],
        cache: CacheConfig { memory_max: 1 << 30, eviction: Eviction::Lru },
        snapshots: SnapshotConfig {
            dir: Some("/var/lib/c".into()),
            every: Duration::from_secs(300),
            at_drain: false,
            on_error: OnError::Empty,
        },
        upstream: UpstreamConfig {
            url: Some(Url::parse("redis://:secret@cache.example:7000/2").unwrap()),
            mode: Mode::Behind,
            ttl_max: Duration::from_secs(60),
            queue_bytes_max: 1 << 20,
            tracking: false,
            ..UpstreamConfig::default()
        },
        cache_http: true,
        limits,
    };
    assert_eq!(settings, expected);
    assert!(from_file("steer = true\nadmin = 'off'").is_ok_and(|s| s.steer && s.admin.is_none()));
}

#[test]
fn values_that_exclude_each_other_are_refused_with_what_to_leave_out() {
    refused("cpus = '0-3'\nshards = 3", {
        "node.toml:2: shards = 3 cannot work: cpus names 4, one for each shard; leave one of the two out"
    });
    assert!(from_file("cpus = '0-3'\nshards = 4").is_ok());
    refused("accept = 'balanced'\nsteer = true", {
        "node.toml:2: steer = true cannot work: accept is balanced, which chooses the shard otherwise; leave one \
         of the two out"
    });
    assert!(
        from_file("pin = false\nsteer = true").is_err_and(|says| says.contains("leave steer or --no-pin"))
    );
    refused("listen = ['[::]:1', '127.0.0.1:9901']", {
        "admin = \"127.0.0.1:9901\" (its default) cannot work: listen has the same address; choose another port \
         for one of the two"
    });
}

#[test]
fn an_admin_interface_that_others_can_reach_needs_a_token() {
    let says = |text: &str| from_file(text).err().unwrap_or_default();
    for admin in ["0.0.0.0:99", "192.0.2.1:99", "[::]:99", "[2001:db8::1]:99"] {
        assert_eq!(
            says(&format!("admin = '{admin}'")),
            format!(
                "node.toml:1: admin = \"{admin}\" can be reached from other hosts and needs a token: set \
                 CORELANE_ADMIN_TOKEN=$(openssl rand -hex 32), or choose 127.0.0.1:99 or off with --admin"
            )
        );
        assert_eq!(says(&format!("admin = '{admin}'\nadmin_token = '0123456789abcdef'")), "");
    }
    for admin in ["127.0.0.1:99", "127.9.9.9:99", "[::1]:99", "[::ffff:127.0.0.1]:99", "off"] {
        assert_eq!(says(&format!("admin = '{admin}'")), "", "{admin}");
    }
}

#[test]
fn an_upstream_that_cannot_work_is_refused_and_its_password_is_shown_nowhere() {
    let says = |text: &str| from_file(&format!("[cache.upstream]\n{text}")).err().unwrap_or_default();
    let url = "url = 'redis://:hunter2@h'";
    assert_eq!(says(url), "");
    for (text, part) in [
        ("in_flight_max = 1", "at least 2"),
        ("breaker_failures = 0", "at least 1"),
        ("queue_keys_max = 0", "at least 1"),
        ("timeout = '0s'", "more than 0s"),
        ("timeout = '3s'", "half of limits.call_time, which is 5s"),
    ] {
        assert!(says(&format!("{url}\n{text}")).contains(part), "{text}");
        assert_eq!(says(text), "", "without a server it says nothing");
    }
    let wrong = says("url = 'rediss://:hunter2@h'");
    assert!(wrong.contains("redis://host:6379") && !wrong.contains("hunter2"), "{wrong}");
    let url = "redis://:hunter2@h".to_owned();
    let env = |name: &str| (name == "CORELANE_CACHE_UPSTREAM_URL").then(|| OsString::from(&url));
    let text = Config::load(&Layers { env: Some(&env), ..Layers::default() }).unwrap().to_toml();
    assert!(
        !text.contains("hunter2") && text.contains("\n# url = \"redis://:***@h:6379/0\" # CORELANE"),
        "{text}"
    );
}

#[test]
fn a_token_is_shown_nowhere() {
    const TOKEN: &str = "a-token-for-nobody-else";
    let env = |name: &str| (name == "CORELANE_ADMIN_TOKEN").then(|| OsString::from(TOKEN));
    let config = Config::load(&Layers { env: Some(&env), ..Layers::default() }).unwrap();
    assert_eq!(config.settings().admin_token.expose(), TOKEN);
    let text = config.to_toml();
    assert!(text.contains("\n# admin_token = \"(set)\" # CORELANE_ADMIN_TOKEN\n"), "{text}");
    let again = Settings { admin_token: Secret::default(), ..config.settings().clone() };
    assert_eq!(from_file(&text), Ok(again), "what is printed is still a file");
    assert!(!format!("{text}{config:?}").contains(TOKEN));

    let env = |name: &str| (name == "CORELANE_ADMIN_TOKEN").then(|| OsString::from("too short"));
    let says = Config::load(&Layers { env: Some(&env), ..Layers::default() }).unwrap_err();
    assert!(!format!("{says} {says:?}").contains("short"), "{says}");
    assert!(
        says.to_string().starts_with("CORELANE_ADMIN_TOKEN=(not shown): write 16 to 256 visible"),
        "{says}"
    );
    for wrong in ["\"sesame\"", "['sesame']", "sesame", "\"sesame"] {
        let says = from_file(&format!("admin_token = {wrong}")).unwrap_err();
        assert!(says.starts_with("node.toml:1: ") && !says.contains("sesame"), "{says}");
    }
}

#[test]
fn users_of_redis_clients_are_looked_at_and_shown_nowhere() {
    let says = |text: &str| from_file(text).err().unwrap_or_default();
    let wrong = says("[resp]\nusers = ['alice on >topsecret', 'bob >topsecret +nosuch']");
    assert_eq!(
        wrong,
        "node.toml:2: resp.users = [\"(set)\", \"(set)\"] cannot work: user 2 of the list, 'bob', rule '+nosuch': \
         Unknown command or category name in ACL"
    );
    for text in
        ["users = 'alice >topsecret'", "users = ['alice >topsecret', 7]", "users = ['alice <topsecret']"]
    {
        let wrong = says(&format!("[resp]\n{text}"));
        assert!(wrong.contains("resp.users") && !wrong.contains("topsecret"), "{wrong}");
    }
    // Others may reach it where nobody can do anything without a password.
    let open = "[resp]\nlisten = '0.0.0.0:6379'\n";
    assert!(says(open).contains("needs a password"));
    assert!(says(&format!("{open}users = ['alice on >x']")).contains("needs a password"));
    assert_eq!(says(&format!("{open}users = ['alice on >x', 'default off']")), "");
    assert!(
        says(&format!("{open}password = '0123456789abcdef'\nusers = ['default nopass']"))
            .contains("needs a password")
    );
}

#[test]
fn cpus_are_a_list_in_words_or_numbers() {
    let cpus = |text: &str| from_file(text).map(|settings| settings.cpus);
    assert_eq!(cpus("cpus = '0,2-4'"), Ok(Some(vec![0, 2, 3, 4])));
    assert_eq!(cpus("cpus = 2"), Ok(Some(vec![2])));
    assert_eq!(cpus("cpus = 'auto'"), Ok(None));
    for text in [
        "cpus = ''",
        "cpus = []",
        "cpus = [-1]",
        "cpus = '1,1'",
        "cpus = '4-2'",
        "cpus = [1.5]",
        "cpus = 8192",
    ] {
        assert!(cpus(text).is_err_and(|says| says.starts_with("node.toml:1: cpus = ")), "{text}");
    }
}

#[test]
fn a_mistake_is_named_with_its_line_and_what_may_be_written() {
    refused("\n\n[limits]\nconections_max = 5", {
        "node.toml:4: there is no key limits.conections_max; did you mean limits.connections_max?"
    });
    refused("connections_max = 5", {
        "node.toml:1: there is no key connections_max; did you mean limits.connections_max?"
    });
    refused("[limits]\nlisten = 5", "node.toml:2: there is no key limits.listen; did you mean listen?");
    refused("[web]\nport = 1", "node.toml:1: there is no key web; `corelane --print-config` shows all");
    refused("'limits.headers_max' = 1", {
        "node.toml:1: there is no key limits.headers_max; `corelane --print-config` shows all"
    });
    refused("listen = 'localhost:80' # here", {
        "node.toml:1: listen = 'localhost:80': write an IP address and a port, like \"127.0.0.1:8080\" or \
         \"[::]:8080\" (port 0: any free one), or \"unix:/path\"; up to 16 of them, each once, by commas"
    });
    refused("pin = 'yes'", "node.toml:1: pin = 'yes': write true or false");
    refused("log_format = \"xml\"", "node.toml:1: log_format = \"xml\": write \"text\" or \"json\"");
    refused("[limits]\nidle_time = 10", {
        "node.toml:2: limits.idle_time = 10: write a time with its unit, like \"250ms\", \"10s\" or \"5m\" (us, \
         ms, s, m, h)"
    });
    refused("[limits]\nheaders_max = 70_000", {
        "node.toml:2: limits.headers_max = 70_000: write a whole number from 0 to 65535"
    });
    refused("[limits]\nheaders_max = '100'", {
        "node.toml:2: limits.headers_max = '100': write a whole number from 0 to 65535"
    });
    assert!(from_file("log = 'verbose'").is_err_and(|says| says.contains("write off, error, warn")));
    assert!(from_file("server_field = \"a\\nb\"").is_err_and(|says| says.contains("visible ASCII")));
}

#[test]
fn what_is_no_toml_is_pointed_at() {
    refused("listen = '[::]:1'\nlisten = '[::]:1'", "node.toml:2: duplicate key");
    for (text, line) in [("a = 1\nb = \n", 2), ("[limits\n", 1), ("\n\n= 4", 3), ("listen = \"", 1)] {
        let says = from_file(text).unwrap_err();
        assert!(says.starts_with(&format!("node.toml:{line}: ")), "{text:?}: {says}");
        assert!(!says.contains('\n'), "{says}");
    }
}

#[test]
fn a_limit_out_of_bounds_is_named_with_its_place_and_its_bounds() {
    refused("[limits]\n\nheaders_max = 129", {
        "node.toml:3: limits.headers_max = 129 cannot work: set it to 1 to 128"
    });
    refused("[limits]\nhead_bytes_max = '8KiB'", {
        "limits.line_bytes_max = 16384 (its default) cannot work: set it to 16 to head_bytes_max; head_bytes_max \
         is \"8KiB\""
    });
    assert!(from_file("[limits]\nheaders_max = 128").is_ok());
    assert!(from_file("[limits]\nhead_bytes_max = '8KiB'\nline_bytes_max = '8KiB'").is_ok());
}

#[test]
fn a_file_that_cannot_be_one_is_an_error() {
    let load = |path: &Path| {
        let layers = Layers { file: Some(path.to_owned()), ..Layers::default() };
        Config::load(&layers).map(drop).map_err(|error| error.to_string())
    };
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none.toml");
    assert!(load(&missing).is_err_and(|says| says.contains("none.toml: cannot be read: No such file")));
    assert!(load(dir.path()).is_err_and(|says| says.contains("cannot be read: Is a directory")));
    assert!(load(Path::new("/dev/zero")).is_err_and(|says| says.contains("longer than 1048576 bytes")));
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"pin = true\n# \xff\n").unwrap();
    assert!(load(&binary).is_err_and(|says| says.ends_with("binary.toml:2: this is no UTF-8")));
    std::fs::write(&binary, " ".repeat(1 << 20)).unwrap();
    assert_eq!(load(&binary), Ok(()), "on the bound");
}

#[test]
fn flags_win_over_the_environment_the_environment_over_the_file_and_all_over_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(
        &path,
        "listen = '127.0.0.1:1'\nlog = 'warn'\npin = false\n[limits]\nbacklog = 7\ntasks_max = 8\n",
    )
    .unwrap();
    let env = |name: &str| match name {
        "CORELANE_LISTEN" => Some(OsString::from("127.0.0.1:2")),
        "CORELANE_LOG" => Some(OsString::from("debug")),
        "CORELANE_CPUS" => Some(OsString::new()),
        _ => None,
    };
    let key = |name| keys::find(name).unwrap();
    let config = Config::load(&Layers {
        file: Some(path.clone()),
        env: Some(&env),
        flags: vec![(key("listen"), "127.0.0.1:3".to_owned())],
        limits: vec!["backlog=9".to_owned(), "backlog=10".to_owned()],
    })
    .unwrap();
    let settings = config.settings();
    assert_eq!(settings.first_tcp().unwrap().port(), 3);
    assert_eq!((settings.log.as_str(), settings.pin), ("debug", false));
    assert_eq!((settings.limits.backlog, settings.limits.tasks_max), (10, 8), "the last flag wins");
    assert_eq!(settings.cpus, None, "an empty variable is none");
    assert_eq!(settings.limits.headers_max, Limits::default().headers_max);

    assert_eq!(config.origin("listen"), &Origin::Flag("--listen".to_owned()));
    assert_eq!(config.origin("log"), &Origin::Env("CORELANE_LOG"));
    let line = Origin::File { path: path.clone().into(), line: 6 };
    assert_eq!(config.origin("limits.tasks_max"), &line);
    assert_eq!(config.origin("limits.headers_max"), &Origin::Default);
    assert!(config.is_default_limit("headers_max"));
    assert!(!config.is_default_limit("tasks_max"));
}

#[test]
fn the_environment_names_the_file_unless_a_flag_does() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("1.toml"), dir.path().join("2.toml"));
    std::fs::write(&one, "log = 'warn'").unwrap();
    std::fs::write(&two, "log = 'error'").unwrap();
    let env = |name: &str| (name == "CORELANE_CONFIG").then(|| one.clone().into_os_string());
    let by_env = Config::load(&Layers { env: Some(&env), ..Layers::default() }).unwrap();
    assert_eq!(by_env.settings().log, "warn");
    let by_flag = Config::load(&Layers { env: Some(&env), file: Some(two), ..Layers::default() }).unwrap();
    assert_eq!(by_flag.settings().log, "error");
}

#[test]
fn mistakes_in_the_environment_and_in_flags_name_the_variable_and_the_flag() {
    let says = |layers: &Layers<'_>| Config::load(layers).unwrap_err().to_string();
    let env = |name: &str| (name == "CORELANE_PIN").then(|| OsString::from("no"));
    let layers = Layers { env: Some(&env), ..Layers::default() };
    assert_eq!(says(&layers), "CORELANE_PIN=no: write true or false");
    let flags = vec![(keys::find("cpus").unwrap(), "0-\n".to_owned())];
    let layers = Layers { flags, ..Layers::default() };
    assert!(says(&layers).starts_with("--cpus 0-\\n: write at most 1024 CPU numbers below 8192"));
    let limit = |text: &str| says(&Layers { limits: vec![text.to_owned()], ..Layers::default() });
    assert_eq!(limit("backlogs=1"), "--limit: there is no key backlogs; did you mean backlog?");
    assert_eq!(limit("backlog"), "--limit backlog : write a whole number from 0 to 4294967295");
    assert_eq!(limit("backlog=0"), "--limit backlog: limits.backlog = 0 cannot work: set it to 1 to 65535");
}

#[test]
fn what_is_printed_gives_the_same_settings_again() {
    let flag = |name, value: &str| (keys::find(name).unwrap(), value.to_owned());
    let config = Config::load(&Layers {
        flags: vec![
            flag("listen", "[::]:9,unix:/run/a b#\"c\""),
            flag("shards", "6"),
            flag("cpus", "1,3-7"),
            flag("smt", "true"),
            flag("pin", "false"),
            flag("host", "glommio"),
            flag("numa", "off"),
            flag("huge_pages", "true"),
            flag("accept", "balanced"),
            flag("proxy_protocol", "10.0.0.0/8,::/0"),
            flag("trusted_proxies", "192.0.2.7"),
            flag("admin", "off"),
            flag("log", "info,corelane_net=trace"),
            flag("log_format", "json"),
            flag("server_field", "a \"b\" \\c #d"),
        ],
        limits: ["connections_max=1", "idle_time=1500ms", "body_bytes_max=1025", "busy_poll=7us"]
            .map(str::to_owned)
            .to_vec(),
        ..Layers::default()
    })
    .unwrap();
    let text = config.to_toml();
    assert_eq!(from_file(&text).as_ref(), Ok(config.settings()), "{text}");
    assert!(text.contains("\nconnections_max = 1 # --limit connections_max\n"), "{text}");
    assert!(text.contains("\nbacklog = 4096\n"), "no note at what nobody set: {text}");
}
