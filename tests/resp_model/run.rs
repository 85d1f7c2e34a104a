//! Does steps on two servers at once and holds what they say against each other.
//!
//! # Rules
//! 1. The order is total: a command is sent once all replies to the one before are here, on both servers, and once
//!    what it set off for other clients has arrived. The exceptions are a burst, which is one client's, and a storm,
//!    whose clients share no key.
//! 2. Redis says what is to come: how many messages, which clients were served, who waits. Ours gets [`Run::patience`]
//!    to say the same, and then must say no more.
//! 3. A step that cannot be done now, such as a command of a client that waits, is left out on both servers.
//!
//! Not here: which steps (`generate`), when replies are the same (`compare`).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::compare::{same, sorted};
use super::generate::{CLIENTS, owned_key};
use super::grammar::all_keys;
use super::step::{Cmd, Step, name, typed, words};
use crate::resp::{Conn, Cut, Value, encode, shown};

/// The servers, by their place in every pair.
const REDIS: usize = 0;
const OURS: usize = 1;
const SIDES: [usize; 2] = [REDIS, OURS];

/// Calls of one iteration: more is one that does not end.
const SCAN_CALLS_MAX: usize = 20_000;

/// For a server that does not say how many clients wait: time to begin to wait.
const BEGIN_TO_WAIT: Duration = Duration::from_millis(5);

/// Two replies that are not the same.
#[derive(Clone, Debug)]
pub(crate) struct Mismatch {
    pub(crate) what: String,
    /// The commands that it showed in.
    pub(crate) cmds: Vec<Cmd>,
}

type Done<T = ()> = Result<T, Mismatch>;

fn mismatch<T>(cmds: &[Cmd], what: String) -> Done<T> {
    Err(Mismatch { what, cmds: cmds.to_vec() })
}

/// The same of one command.
fn about<T>(cmd: &Cmd, what: String) -> Done<T> {
    mismatch(std::slice::from_ref(cmd), what)
}

/// One client, connected to both servers.
struct Client {
    conns: [Conn; 2],
    /// RESP3.
    is_three: bool,
    /// The commands queued since MULTI.
    queue: Option<Vec<Cmd>>,
    /// What it waits with.
    waits: Option<Cmd>,
    /// Channels and patterns.
    subscriptions: i64,
    /// Messages and other pushes that have not been compared.
    pushes: [Vec<Value>; 2],
}

/// Two servers and the clients of a run.
pub(crate) struct Run {
    addrs: [SocketAddr; 2],
    controls: [Conn; 2],
    clients: Vec<Client>,
    /// Every key that any step can name.
    keys: Vec<Vec<u8>>,
    /// What each server says how many are connected when all are.
    connected: [Option<i64>; 2],
    pub(crate) commands: u64,
    pub(crate) patience: Duration,
}

impl Run {
    /// Empties both servers and connects.
    ///
    /// # Errors
    /// One of them does not accept, or not these first commands.
    pub(crate) fn begin(addrs: [SocketAddr; 2], patience: Duration) -> Done<Run> {
        let mut controls = Vec::new();
        for addr in addrs {
            let mut control = open(addr)?;
            control.send(&encode(&["FLUSHALL"]));
            match control.read_within(patience) {
                Ok(value) if value == Value::ok() => controls.push(control),
                other => return mismatch(&[words("FLUSHALL")], format!("{addr} says {other:?}")),
            }
        }
        let Ok(controls) = <[Conn; 2]>::try_from(controls) else { unreachable!("there are two addresses") };
        let owned = |client| all_keys().into_iter().map(move |key| owned_key(client, &key));
        let keys = (0..CLIENTS).flat_map(owned).chain(all_keys()).collect();
        let (clients, connected) = (Vec::new(), [None; 2]);
        let mut run = Run { addrs, controls, clients, keys, connected, commands: 0, patience };
        for number in 0..CLIENTS {
            let client = run.connect(number)?;
            run.clients.push(client);
        }
        run.connected = SIDES.map(|side| run.info(side, "connected_clients"));
        Ok(run)
    }

    /// Does a step.
    pub(crate) fn step(&mut self, step: &Step) -> Done {
        if self.overwrites_what_is_waited_for(step)? {
            return Ok(());
        }
        match step {
            Step::One { client, cmd } => self.one(*client, cmd)?,
            Step::Burst { client, cmds } => {
                if self.is_free(*client) {
                    self.burst(*client, cmds)?;
                }
            }
            Step::Storm { bursts } => self.storm(bursts)?,
            Step::Block { client, cmd } => self.block(*client, cmd)?,
            Step::Pick { client, cmd } => self.pick(*client, cmd)?,
            Step::Scan { client, cmd, cursor } => self.scan(*client, cmd, *cursor)?,
            Step::Lex { client, cmd, key } => {
                if self.is_plain(*client) && self.has_equal_scores(key)? {
                    self.burst(*client, std::slice::from_ref(cmd))?;
                }
            }
            Step::Expire { client, cmds, ms } => self.expire(*client, cmds, *ms)?,
            Step::Subscribe { client, cmd } => self.subscribe(*client, cmd)?,
            Step::Raw { client, bytes } => self.raw(*client, bytes)?,
            Step::Reconnect { client } => self.reconnect(*client)?,
            Step::Compare => self.compare_all()?,
        }
        self.settle(step)
    }

    // Connections.

    fn connect(&mut self, number: usize) -> Done<Client> {
        let [redis, ours] = self.addrs;
        let mut client = Client {
            conns: [open(redis)?, open(ours)?],
            is_three: false,
            queue: None,
            waits: None,
            subscriptions: 0,
            pushes: [Vec::new(), Vec::new()],
        };
        client.is_three = number % 2 == 1;
        // It is a client once it has said something.
        let first = words(if client.is_three { "HELLO 3" } else { "PING" });
        for side in SIDES {
            client.conns[side].send(&encode(&first));
            match client.conns[side].read_within(self.patience) {
                Ok(value) if matches!(value, Value::Map(_)) || is_pong(&value) => {}
                other => return about(&first, format!("{} says {other:?}", self.addrs[side])),
            }
        }
        Ok(client)
    }

    /// Closes a client and connects another, once both servers have taken notice.
    fn reconnect(&mut self, client: usize) -> Done {
        let waits = self.clients[client].waits.take().is_some();
        let waiting = SIDES.map(|side| self.info(side, "blocked_clients").filter(|_| waits));
        let subscribed = self.clients[client].subscriptions > 0;
        for side in SIDES {
            self.clients[client].conns[side].close();
        }
        for side in SIDES {
            let less = |count: Option<i64>| count.map(|count| count - 1);
            // One that ended the connection itself may have counted it out already.
            self.until(side, "connected_clients", less(self.connected[side]));
            self.until(side, "blocked_clients", less(waiting[side]));
        }
        self.clients[client] = self.connect(client)?;
        if subscribed {
            self.channels_agree()?;
        }
        Ok(())
    }

    /// What a closed client had subscribed to is given up some time after it has closed.
    fn channels_agree(&mut self) -> Done {
        let deadline = Instant::now() + self.patience;
        for cmd in [words("PUBSUB CHANNELS"), words("PUBSUB NUMPAT")] {
            loop {
                let [redis, ours] = self.ask_both(&cmd)?;
                if same(&cmd, &[], &redis, &ours) {
                    break;
                }
                if Instant::now() > deadline {
                    return mismatch(&[cmd], format!("redis: {redis:?}\nours:  {ours:?}"));
                }
                sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// May send a command.
    fn is_free(&self, client: usize) -> bool {
        self.clients[client].waits.is_none()
    }

    /// May send one whose reply is that of the command, at once.
    fn is_plain(&self, client: usize) -> bool {
        let client = &self.clients[client];
        let listens = client.subscriptions > 0 && !client.is_three;
        client.waits.is_none() && client.queue.is_none() && !listens
    }

    // Asking outside of what is tested.

    fn control(&mut self, side: usize, cmd: &Cmd) -> Done<Value> {
        self.controls[side].send(&encode(cmd));
        let reply = self.controls[side].read_within(self.patience);
        reply.or_else(|cut| about(cmd, format!("{}: {cut:?}", side_name(side))))
    }

    fn ask_both(&mut self, cmd: &Cmd) -> Done<[Value; 2]> {
        Ok([self.control(REDIS, cmd)?, self.control(OURS, cmd)?])
    }

    /// A number of `INFO clients`, where the server tells it.
    fn info(&mut self, side: usize, field: &str) -> Option<i64> {
        let info = self.control(side, &words("INFO clients")).ok()?;
        let text = String::from_utf8_lossy(info.text()?).into_owned();
        let line =
            text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned))?;
        line.trim().parse().ok()
    }

    /// Waits until a number of `INFO clients` is as told, or for a moment where the server does not tell it.
    fn until(&mut self, side: usize, field: &str, wanted: Option<i64>) {
        let Some(wanted) = wanted else {
            sleep(BEGIN_TO_WAIT);
            return;
        };
        let deadline = Instant::now() + self.patience;
        while self.info(side, field).is_some_and(|count| count > wanted) && Instant::now() < deadline {
            sleep(Duration::from_micros(200));
        }
    }

    // Replies.

    /// The next value that is a reply; those that are not are kept.
    fn reply(&mut self, side: usize, client: usize, patience: Duration) -> Result<Value, Cut> {
        let client = &mut self.clients[client];
        loop {
            let value = client.conns[side].read_within(patience)?;
            if is_pushed(&value, client.subscriptions > 0) {
                client.pushes[side].push(value);
            } else {
                return Ok(value);
            }
        }
    }

    /// As `reply`, of what is here.
    fn reply_now(&mut self, side: usize, client: usize) -> Result<Option<Value>, Cut> {
        let client = &mut self.clients[client];
        while let Some(value) = client.conns[side].read_now()? {
            if !is_pushed(&value, client.subscriptions > 0) {
                return Ok(Some(value));
            }
            client.pushes[side].push(value);
        }
        Ok(None)
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        for side in SIDES {
            // A server that has closed shows when its reply is read.
            self.clients[client].conns[side].send(bytes);
        }
    }

    /// Reads the replies to `cmds` and compares them.
    fn read_burst(&mut self, client: usize, cmds: &[Cmd]) -> Done {
        for (at, cmd) in cmds.iter().enumerate() {
            let [redis, ours] = SIDES.map(|side| self.reply(side, client, self.patience));
            let queue = self.clients[client].queue.clone().unwrap_or_default();
            let agree = match (&redis, &ours) {
                (Ok(redis), Ok(ours)) => same(cmd, &queue, redis, ours),
                _ => false,
            };
            if !agree {
                let text = format!("{}\nredis: {}\nours:  {}", typed(cmd), said(&redis), said(&ours));
                let within = if queue.is_empty() {
                    String::new()
                } else {
                    format!("\nqueued: {}", queue.iter().map(typed).collect::<Vec<_>>().join(" ; "))
                };
                let blamed = [&queue[..], &cmds[..=at]].concat();
                return mismatch(&blamed, text + &within);
            }
            if let Ok(redis) = redis {
                self.follow(client, cmd, &redis);
            }
        }
        self.commands += cmds.len() as u64;
        Ok(())
    }

    /// What a reply means for the client.
    fn follow(&mut self, client: usize, cmd: &Cmd, reply: &Value) {
        let client = &mut self.clients[client];
        let wrong = reply.text().is_some_and(|text| text.starts_with(b"ERR wrong number"));
        match name(cmd).as_str() {
            "MULTI" if *reply == Value::ok() => client.queue = Some(Vec::new()),
            "EXEC" | "DISCARD" if !wrong => client.queue = None,
            "RESET" if !reply.is_error() => {
                client.queue = None;
                client.subscriptions = 0;
                client.is_three = false;
            }
            "HELLO" if !reply.is_error() && client.queue.is_none() => {
                client.is_three = matches!(reply, Value::Map(_));
            }
            _ => {
                if let Some(queue) = &mut client.queue
                    && *reply == Value::Simple(b"QUEUED".to_vec())
                {
                    queue.push(cmd.clone());
                }
            }
        }
    }

    // Steps.

    fn one(&mut self, client: usize, cmd: &Cmd) -> Done {
        if !self.is_free(client) {
            return Ok(());
        }
        let first = name(cmd);
        // Queued, the one would change how the rest of the same EXEC is written, and the others see what has expired.
        if matches!(first.as_str(), "HELLO" | "DBSIZE" | "MEMORY") && self.clients[client].queue.is_some() {
            return Ok(());
        }
        if matches!(first.as_str(), "DBSIZE" | "MEMORY") {
            self.ask_for_all()?;
        }
        self.burst(client, std::slice::from_ref(cmd))?;
        if first == "QUIT" {
            for side in SIDES {
                let end = self.reply(side, client, self.patience);
                if end != Err(Cut::End) {
                    return about(cmd, format!("{} after QUIT: {end:?}", side_name(side)));
                }
            }
            self.reconnect(client)?;
        }
        Ok(())
    }

    fn burst(&mut self, client: usize, cmds: &[Cmd]) -> Done {
        let state = &self.clients[client];
        let queues = state.queue.is_some() || cmds.iter().any(|cmd| name(cmd) == "MULTI");
        if state.subscriptions > 0 && queues && cmds.iter().any(|cmd| name(cmd) == "PUBLISH") {
            // To one who hears it itself, Redis 7.0 writes the message into the array of the EXEC.
            return Ok(());
        }
        let bytes: Vec<u8> = cmds.iter().flat_map(|cmd| encode(cmd)).collect();
        self.send(client, &bytes);
        self.read_burst(client, cmds)
    }

    fn storm(&mut self, bursts: &[(usize, Vec<Cmd>)]) -> Done {
        let free: Vec<_> = bursts.iter().filter(|(client, _)| self.is_plain(*client)).cloned().collect();
        for (client, cmds) in &free {
            let bytes: Vec<u8> = cmds.iter().flat_map(|cmd| encode(cmd)).collect();
            self.send(*client, &bytes);
        }
        for (client, cmds) in &free {
            self.read_burst(*client, cmds)?;
        }
        Ok(())
    }

    fn block(&mut self, client: usize, cmd: &Cmd) -> Done {
        if !self.is_plain(client) {
            return self.one(client, cmd);
        }
        let has_end = !cmd.iter().any(|arg| arg == b"0");
        let waiting = self.clients.iter().filter(|client| client.waits.is_some()).count();
        if has_end {
            return self.burst(client, std::slice::from_ref(cmd));
        }
        if waiting + 3 > CLIENTS {
            return Ok(());
        }
        let before = SIDES.map(|side| self.info(side, "blocked_clients"));
        self.send(client, &encode(cmd));
        let deadline = Instant::now() + self.patience;
        loop {
            if let Ok(Some(redis)) = self.reply_now(REDIS, client) {
                return self.is_served(client, cmd, &redis);
            }
            if self.info(REDIS, "blocked_clients") > before[REDIS] {
                break;
            }
            if Instant::now() > deadline {
                return about(cmd, "redis neither waits nor replies".to_owned());
            }
        }
        self.clients[client].waits = Some(cmd.clone());
        if before[OURS].is_none() {
            sleep(BEGIN_TO_WAIT);
        }
        while before[OURS].is_some() && self.info(OURS, "blocked_clients") <= before[OURS] {
            if let Ok(Some(ours)) = self.reply_now(OURS, client) {
                return about(cmd, format!("{}\nredis waits\nours:  {ours:?}", typed(cmd)));
            }
            if Instant::now() > deadline {
                return about(cmd, format!("{}\nredis waits, ours does not", typed(cmd)));
            }
        }
        self.commands += 1;
        Ok(())
    }

    /// Redis has served a client that waited, or could have: ours must, too.
    fn is_served(&mut self, client: usize, cmd: &Cmd, redis: &Value) -> Done {
        self.clients[client].waits = None;
        let ours = self.reply(OURS, client, self.patience);
        if ours.as_ref().is_ok_and(|ours| same(cmd, &[], redis, ours)) {
            self.commands += 1;
            return Ok(());
        }
        let text = format!("{}\nredis: {redis:?}\nours:  {}", typed(cmd), said(&ours));
        about(cmd, text)
    }

    /// Commands that chance has a part in: both must choose among the members, as many, and of the same form. What
    /// SPOP took is made the same afterwards.
    fn pick(&mut self, client: usize, cmd: &Cmd) -> Done {
        if !self.is_plain(client) {
            return Ok(());
        }
        let first = name(cmd);
        let key = cmd.get(1).cloned().unwrap_or_default();
        let look: Cmd = match first.as_str() {
            "RANDOMKEY" => words("KEYS *"),
            "HRANDFIELD" => vec![b"HGETALL".to_vec(), key.clone()],
            "ZRANDMEMBER" => [&[b"ZRANGE".to_vec(), key.clone()][..], &words("0 -1 WITHSCORES")].concat(),
            _ => vec![b"SMEMBERS".to_vec(), key.clone()],
        };
        let pool = self.control(REDIS, &look)?;
        self.send(client, &encode(cmd));
        let [redis, ours] = SIDES.map(|side| self.reply(side, client, self.patience));
        self.commands += 1;
        let wrong = |why: &str| {
            let said = format!("redis: {}\nours:  {}", said(&redis), said(&ours));
            about(cmd, format!("{}\n{said}\n{why} of {pool:?}", typed(cmd)))
        };
        let (Ok(redis), Ok(ours)) = (&redis, &ours) else { return wrong("no two replies") };
        if redis.is_error() || ours.is_error() || redis.is_null() {
            return if redis == ours { Ok(()) } else { wrong("not the same") };
        }
        if form(redis) != form(ours) {
            return wrong("not the same form");
        }
        let pool: Vec<&[u8]> = pool.elements().unwrap_or_default().iter().filter_map(Value::text).collect();
        let with_values = cmd.len() > 3;
        let (picked, expected) = (leaves(ours), leaves(redis));
        let is_member = |chunk: &[Vec<u8>]| {
            if with_values || !matches!(first.as_str(), "HRANDFIELD" | "ZRANDMEMBER") {
                pool.chunks(chunk.len()).any(|member| member.iter().zip(chunk).all(|(a, b)| a == b))
            } else {
                pool.chunks(2).any(|pair| pair.first() == Some(&&chunk[0][..]))
            }
        };
        let mut chunks = picked.chunks(if with_values { 2 } else { 1 });
        if !chunks.clone().all(is_member) {
            return wrong("chosen from elsewhere than the members");
        }
        let repeats = cmd.get(2).is_some_and(|count| count.starts_with(b"-"));
        let mut seen = BTreeSet::new();
        if !repeats && !chunks.all(|chunk| seen.insert(chunk)) {
            return wrong("the same twice");
        }
        if first == "SPOP" {
            self.make_even(&key, &expected, &picked)?;
        }
        Ok(())
    }

    /// Puts back on our side what Redis has not taken, and takes what it has.
    fn make_even(&mut self, key: &[u8], redis: &[Vec<u8>], ours: &[Vec<u8>]) -> Done {
        let only = |all: &[Vec<u8>], others: &[Vec<u8>]| {
            all.iter().filter(|one| !others.contains(one)).cloned().collect::<Vec<_>>()
        };
        for (verb, members) in [("SADD", only(ours, redis)), ("SREM", only(redis, ours))] {
            if members.is_empty() {
                continue;
            }
            let cmd = [vec![verb.as_bytes().to_vec(), key.to_vec()], members.clone()].concat();
            let reply = self.control(OURS, &cmd)?;
            if reply.int() != i64::try_from(members.len()).ok() {
                return about(&cmd, format!("{}\nours, after SPOP:  {reply:?}", typed(&cmd)));
            }
        }
        Ok(())
    }

    fn scan(&mut self, client: usize, cmd: &Cmd, cursor: usize) -> Done {
        if !self.is_plain(client) {
            return Ok(());
        }
        let first = name(cmd);
        let size = if matches!(first.as_str(), "HSCAN" | "ZSCAN") { 2 } else { 1 };
        let mut found = [Ok(Value::Null), Ok(Value::Null)];
        for side in SIDES {
            found[side] = self.scan_one(side, client, cmd, cursor, size);
        }
        self.commands += 1;
        let [redis, ours] = found;
        if redis.is_ok() && redis == ours {
            return Ok(());
        }
        let text =
            |found: Result<Value, String>| found.map_or_else(|error| error, |value| format!("{value:?}"));
        let text = format!("{} until its end\nredis: {}\nours:  {}", typed(cmd), text(redis), text(ours));
        about(cmd, text)
    }

    /// All that an iteration gives, once and in order, or the error it begins with.
    fn scan_one(
        &mut self,
        side: usize,
        client: usize,
        cmd: &Cmd,
        place: usize,
        size: usize,
    ) -> Result<Value, String> {
        let mut cmd = cmd.clone();
        let mut found = BTreeSet::new();
        for _ in 0..SCAN_CALLS_MAX {
            self.clients[client].conns[side].send(&encode(&cmd));
            let reply = self.reply(side, client, self.patience).map_err(|cut| format!("{cut:?}"))?;
            if reply.is_error() {
                return Ok(reply);
            }
            let Value::Array(parts) = &reply else { return Err(format!("{reply:?}")) };
            let [Value::Bulk(cursor), Value::Array(some)] = &parts[..] else {
                return Err(format!("{reply:?}"));
            };
            found.extend(some.chunks(size).map(|chunk| scanned(&cmd, chunk)));
            if cursor == b"0" {
                return Ok(Value::Array(found.into_iter().map(Value::Array).collect()));
            }
            cmd[place].clone_from(cursor);
        }
        Err(format!("no end after {SCAN_CALLS_MAX} calls"))
    }

    fn has_equal_scores(&mut self, key: &[u8]) -> Done<bool> {
        let look = [&[b"ZRANGE".to_vec(), key.to_vec()][..], &words("0 -1 WITHSCORES")].concat();
        let all = self.control(REDIS, &look)?;
        let mut scores = all.elements().unwrap_or_default().chunks(2).filter_map(|pair| pair.get(1));
        let first = scores.next();
        Ok(scores.all(|score| Some(score) == first))
    }

    /// A sorted set stored over what is there: Redis 7.0 serves nobody who waits for that key, as it does where nothing
    /// was there before.
    fn overwrites_what_is_waited_for(&mut self, step: &Step) -> Done<bool> {
        const STORES: &[&str] = &["ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE", "ZRANGESTORE"];
        let queued = self.clients.iter().filter_map(|client| client.queue.clone()).flatten();
        let cmds: Vec<Cmd> = step.cmds().into_iter().cloned().chain(queued).collect();
        for cmd in cmds.iter().filter(|cmd| STORES.contains(&name(cmd).as_str())) {
            let Some(key) = cmd.get(1) else { continue };
            let is_waited_for = |client: &Client| client.waits.as_ref().is_some_and(|cmd| cmd.contains(key));
            if self.clients.iter().any(is_waited_for) {
                let exists = self.control(REDIS, &vec![b"EXISTS".to_vec(), key.clone()])?;
                if exists != Value::Int(0) || step.cmds().len() > 1 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn expire(&mut self, client: usize, cmds: &[Cmd], ms: u64) -> Done {
        if !self.is_plain(client) || cmds.is_empty() {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let moment = (now + Duration::from_millis(ms)).as_millis().to_string().into_bytes();
        let timed =
            |cmd: &Cmd| cmd.iter().map(|arg| if arg == b"@" { &moment } else { arg }.clone()).collect();
        let cmds: Vec<Cmd> = cmds.iter().map(timed).collect();
        self.burst(client, &cmds)?;
        sleep(Duration::from_millis(ms + 2));
        if ms.is_multiple_of(2) { self.ask_for_all() } else { Ok(()) }
    }

    /// Redis counts a key that has expired until somebody asks for it, or its own look comes around to it.
    fn ask_for_all(&mut self) -> Done {
        let cmd = [vec![b"EXISTS".to_vec()], self.keys.clone()].concat();
        let [redis, ours] = self.ask_both(&cmd)?;
        if redis == ours {
            return Ok(());
        }
        about(&cmd, format!("{}\nredis: {redis:?}\nours:  {ours:?}", typed(&cmd)))
    }

    /// Everything up to the reply to a PING behind the command: confirmations, and errors.
    fn subscribe(&mut self, client: usize, cmd: &Cmd) -> Done {
        let state = &self.clients[client];
        if state.waits.is_some() || state.queue.is_some() {
            return Ok(());
        }
        let ping = words("PING");
        self.send(client, &[encode(cmd), encode(&ping)].concat());
        let mut said = [Vec::new(), Vec::new()];
        for side in SIDES {
            loop {
                let value = self.clients[client].conns[side].read_within(self.patience);
                let Ok(value) = value else {
                    let text = format!("{}\n{}: {value:?} after {said:?}", typed(cmd), side_name(side));
                    return about(cmd, text);
                };
                if is_pong(&value) {
                    break;
                }
                if side == REDIS
                    && let Some(count) = value.elements().and_then(|all| all.last()).and_then(Value::int)
                {
                    self.clients[client].subscriptions = count;
                }
                said[side].push(value);
            }
            // All of them at once: then the order is that of a table.
            if cmd.len() == 1 {
                said[side] = in_order(&said[side]);
            }
        }
        self.commands += 1;
        let [redis, ours] = said;
        if redis == ours {
            return Ok(());
        }
        about(cmd, format!("{}\nredis: {redis:?}\nours:  {ours:?}", typed(cmd)))
    }

    fn raw(&mut self, client: usize, bytes: &[u8]) -> Done {
        if !self.is_plain(client) || self.clients[client].subscriptions > 0 {
            return Ok(());
        }
        let mark = words("ECHO *mark*");
        // Where the protocol is broken nothing more is sent: a close with unread bytes is a reset.
        let ends = super::generate::is_broken(bytes);
        self.send(client, &if ends { bytes.to_vec() } else { [bytes, &encode(&mark)].concat() });
        let mut said = [Vec::new(), Vec::new()];
        for side in SIDES {
            loop {
                let reply = self.reply(side, client, self.patience);
                let is_last = reply.is_err() || reply == Ok(Value::bulk("*mark*"));
                said[side].push(reply);
                if is_last {
                    break;
                }
            }
        }
        self.commands += 1;
        let [redis, ours] = said;
        if redis != ours {
            let text = format!("raw \"{}\"\nredis: {redis:?}\nours:  {ours:?}", shown(bytes));
            return mismatch(&[], text);
        }
        if ends { self.reconnect(client) } else { Ok(()) }
    }

    /// All keys, with type, time to live and content.
    fn compare_all(&mut self) -> Done {
        self.ask_for_all()?;
        let list = words("KEYS *");
        let [redis, ours] = self.ask_both(&list)?;
        let keys = sorted(redis);
        if keys != sorted(ours.clone()) {
            return mismatch(&[list], format!("all keys\nredis: {keys:?}\nours:  {:?}", sorted(ours)));
        }
        for key in keys.elements().unwrap_or_default().iter().filter_map(Value::text) {
            let ask = |verb: &str| vec![verb.as_bytes().to_vec(), key.to_vec()];
            let kind = self.control(REDIS, &ask("TYPE"))?;
            let look = match kind.text() {
                Some(b"hash") => ask("HGETALL"),
                Some(b"set") => ask("SMEMBERS"),
                Some(b"list") => [ask("LRANGE"), words("0 -1")].concat(),
                Some(b"zset") => [ask("ZRANGE"), words("0 -1 WITHSCORES")].concat(),
                _ => ask("GET"),
            };
            for cmd in [ask("TYPE"), ask("PTTL"), look] {
                let [redis, ours] = self.ask_both(&cmd)?;
                if !same(&cmd, &[], &redis, &ours) {
                    let text = format!("{} in a comparison of all", typed(&cmd));
                    return mismatch(&[cmd], format!("{text}\nredis: {redis:?}\nours:  {ours:?}"));
                }
            }
        }
        Ok(())
    }

    // Afterwards.

    /// What the step set off for other clients: those that waited and are served, and messages.
    fn settle(&mut self, step: &Step) -> Done {
        let cmds = step.cmds();
        let may_say = |cmd: &&Cmd| matches!(name(cmd).as_str(), "PUBLISH" | "EXEC");
        let waits = self.clients.iter().any(|client| client.waits.is_some());
        let listens = self.clients.iter().any(|client| client.subscriptions > 0);
        let heard = listens && cmds.iter().any(may_say);
        if !waits && !heard {
            return Ok(());
        }
        // Redis has sent what it had to before it answers this.
        self.control(REDIS, &words("PING"))?;
        if waits {
            self.served(step)?;
        }
        if listens { self.messages(step) } else { Ok(()) }
    }

    fn served(&mut self, step: &Step) -> Done {
        for client in 0..CLIENTS {
            let Some(cmd) = self.clients[client].waits.clone() else { continue };
            let blamed: Vec<Cmd> = step.cmds().into_iter().chain([&cmd]).cloned().collect();
            let redis = match self.reply_now(REDIS, client) {
                Ok(None) => Ok(None::<Value>),
                Ok(Some(redis)) => {
                    self.is_served(client, &cmd, &redis)
                        .map_err(|found| Mismatch { cmds: blamed, ..found })?;
                    continue;
                }
                Err(cut) => Err(cut),
            };
            let ours = self.reply_now(OURS, client);
            if (&redis, &ours) != (&Ok(None), &Ok(None)) {
                let text = format!("{} waits\nredis: {redis:?}\nours:  {ours:?}", typed(&cmd));
                return mismatch(&blamed, text);
            }
        }
        Ok(())
    }

    fn messages(&mut self, step: &Step) -> Done {
        for client in 0..CLIENTS {
            if self.clients[client].subscriptions == 0 {
                continue;
            }
            let patience = self.patience;
            let state = &mut self.clients[client];
            while let Ok(Some(value)) = state.conns[REDIS].read_now() {
                state.pushes[REDIS].push(value);
            }
            while state.pushes[OURS].len() < state.pushes[REDIS].len() {
                match state.conns[OURS].read_within(patience) {
                    Ok(value) => state.pushes[OURS].push(value),
                    Err(_) => break,
                }
            }
            if let Ok(Some(more)) = state.conns[OURS].read_now() {
                state.pushes[OURS].push(more);
            }
            let [redis, ours] = std::mem::take(&mut state.pushes).map(by_pattern);
            if redis != ours {
                let blamed: Vec<Cmd> = step.cmds().into_iter().cloned().collect();
                let text = format!("{step}\nclient {client} hears\nredis: {redis:?}\nours:  {ours:?}");
                return mismatch(&blamed, text);
            }
        }
        Ok(())
    }
}

fn open(addr: SocketAddr) -> Done<Conn> {
    Conn::try_open(addr).or_else(|error| mismatch(&[], format!("connect to {addr}: {error}")))
}

fn side_name(side: usize) -> &'static str {
    if side == REDIS { "redis" } else { "ours" }
}

fn said(reply: &Result<Value, Cut>) -> String {
    reply.as_ref().map_or_else(|cut| format!("no reply ({cut:?})"), |value| format!("{value:?}"))
}

/// Whether a value is none of the replies: a push of RESP3, or a message to a listener of RESP2.
fn is_pushed(value: &Value, listens: bool) -> bool {
    match value {
        Value::Push(_) => true,
        Value::Array(all) if listens => {
            matches!(all.first(), Some(Value::Bulk(kind)) if kind == b"message" || kind == b"pmessage")
        }
        _ => false,
    }
}

fn is_pong(value: &Value) -> bool {
    let of_listener = |all: &[Value]| all.first().and_then(Value::text) == Some(b"pong");
    *value == Value::Simple(b"PONG".to_vec()) || value.elements().is_some_and(of_listener)
}

/// Messages with those that several patterns brought in order: patterns have none.
fn by_pattern(mut pushes: Vec<Value>) -> Vec<Value> {
    let of_pattern = |value: &Value| {
        let all = value.elements()?;
        (all.len() == 4).then(|| (all[2].clone(), all[3].clone()))
    };
    for run in
        pushes.chunk_by_mut(|one, next| of_pattern(one).is_some() && of_pattern(one) == of_pattern(next))
    {
        run.sort();
    }
    pushes
}

/// Confirmations with their channels in order; the counts stay where they are.
fn in_order(said: &[Value]) -> Vec<Value> {
    let mut channels: Vec<_> = said.iter().filter_map(|one| one.elements()?.get(1).cloned()).collect();
    channels.sort();
    let mut channels = channels.into_iter();
    let with = |one: &Value, channel: Option<Value>| match (one, channel) {
        (Value::Array(all), Some(channel)) => Value::Array(replaced(all, channel)),
        (Value::Push(all), Some(channel)) => Value::Push(replaced(all, channel)),
        (other, _) => other.clone(),
    };
    said.iter()
        .map(|one| {
            if one.elements().is_some_and(|all| all.len() > 1) {
                with(one, channels.next())
            } else {
                one.clone()
            }
        })
        .collect()
}

fn replaced(all: &[Value], second: Value) -> Vec<Value> {
    all.iter().enumerate().map(|(at, value)| if at == 1 { second.clone() } else { value.clone() }).collect()
}

/// What an iteration gives at a place. A score of ZSCAN is a number: in its small encoding Redis writes a large one in
/// digits where it otherwise writes an exponent.
fn scanned(cmd: &Cmd, chunk: &[Value]) -> Vec<Value> {
    let number = |value: &Value| std::str::from_utf8(value.text()?).ok()?.parse::<f64>().ok();
    match (name(cmd).as_str(), chunk) {
        ("ZSCAN", [member, score]) => {
            let score = number(score).map_or(score.clone(), |number| Value::bulk(format!("{number:e}")));
            vec![member.clone(), score]
        }
        _ => chunk.to_vec(),
    }
}

/// The value without its texts and numbers.
fn form(value: &Value) -> Value {
    match value {
        Value::Array(all) => Value::Array(all.iter().map(form).collect()),
        Value::Set(all) => Value::Set(all.iter().map(form).collect()),
        Value::Bulk(_) => Value::bulk(""),
        Value::Double(_) => Value::Double(Vec::new()),
        other => other.clone(),
    }
}

/// The texts of a value, in order.
fn leaves(value: &Value) -> Vec<Vec<u8>> {
    match (value.elements(), value.text()) {
        (Some(all), _) => all.iter().flat_map(leaves).collect(),
        (None, Some(text)) => vec![text.to_vec()],
        (None, None) => Vec::new(),
    }
}

/// Optional commands that a server does not know.
pub(crate) fn unknown_of(addr: SocketAddr, names: &[&str]) -> BTreeSet<String> {
    let mut conn = Conn::open(addr);
    let mut unknown = BTreeSet::new();
    for name in names {
        let reply = conn.ask(&[name]);
        if reply.is_error() && reply.text().is_some_and(|text| text.starts_with(b"ERR unknown command")) {
            unknown.insert((*name).to_owned());
        }
    }
    unknown
}
