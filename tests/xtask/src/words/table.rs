//! The words that are not used, and what to write instead.

/// One entry of the list.
pub(super) struct Entry {
    pub(super) find: Find,
    pub(super) instead: &'static str,
    /// Files and folders in which it is allowed, and why. A path that ends in `/` includes everything below it.
    pub(super) except: &'static [(&'static str, &'static str)],
}

/// What is searched for.
#[derive(Clone, Copy)]
pub(super) enum Find {
    /// This identifier, in files below one of these paths.
    Name(&'static str, &'static [&'static str]),
    /// A type whose whole name this is, in files below one of these paths.
    Type(&'static str, &'static [&'static str]),
    /// A part of an identifier, in any case: `patience` in `READ_PATIENCE`.
    Part(&'static str),
    /// A file or folder.
    File(&'static str),
    /// The beginning of a word, in prose and identifiers, in any case.
    Stem(&'static str),
    /// Words that follow each other in comments, literals and pages, in any case.
    Phrase(&'static str),
}

const fn entry(find: Find, instead: &'static str) -> Entry {
    Entry { find, instead, except: &[] }
}

const EVERYWHERE: &[&str] = &[""];
const ENGINE: &[&str] = &["rbee-core/src/engine"];
const QUEEN: &[&str] = &["rbee-core/src/queen"];
const RHAI: &[&str] = &["rbee-core/src/scheduler/rhai", "rbee-core/src/rhai"];
const SCHEDULER: &[&str] = &["rbee-core/src/scheduler", "rbee-core/src/cluster"];
const CANDLE: &[&str] = &["rbee-core/src/worker/candle", "rbee-core/src/candle"];
const SERVER: &[&str] = &["rbee-transport-http/src/server"];
const SOURCES: &[&str] = &["rbee-core/src/", "rbee-transport-http/src/"];
const CONFIG: &[&str] = &["examples/queen-rbee/src/config"];

const PROGRAM: &str = "a program is \"it\" (\"its\")";
const IF: &str = "\"if\" for a condition";

pub(super) const TABLE: &[Entry] = &[
    // The engine.
    entry(Find::Part("errand"), "HiveTasks, hive task"),
    entry(Find::Name("Loads", &["rbee-core/src/"]), "LoadProgress"),
    entry(Find::Type("Load", &["rbee-core/src/queen"]), "LoadProgress"),
    entry(Find::Name("Marks", EVERYWHERE), "WorkerFlags"),
    entry(Find::Name("marks", ENGINE), "worker_flags"),
    entry(Find::Name("settled", &["rbee-core/src/"]), "min_loaded_elapsed"),
    entry(Find::Name("Line", ENGINE), "OrderedList"),
    entry(Find::Name("Spent", ENGINE), "FairShare"),
    entry(Find::Name("Place", &["rbee-core/src/engine/lanes"]), "QueueKey"),
    entry(Find::Part("alarm"), "Timer, timer"),
    entry(Find::Name("Turn", &["rbee-core/src/engine/timers.rs"]), "TimerKey"),
    entry(Find::Name("Pace", ENGINE), "Throughput"),
    entry(Find::Name("Paces", ENGINE), "ServiceTimes"),
    entry(Find::Name("Promise", ENGINE), "Reservation"),
    entry(Find::Name("Promises", ENGINE), "MemoryReservations"),
    entry(Find::Name("promises", ENGINE), "reservations"),
    entry(Find::Name("starved", &["rbee-core/src/"]), "blocked_on_memory"),
    entry(Find::Stem("optimis"), "autoscaler, autoscale (elsewhere: optimize)"),
    entry(Find::Name("Chance", EVERYWHERE), "Rng"),
    entry(Find::Name("chance", EVERYWHERE), "rng, random"),
    entry(Find::Part("dice"), "Rng"),
    entry(Find::Name("Then", ENGINE), "AfterAbort"),
    entry(Find::Name("Awaited", EVERYWHERE), "PendingWrite"),
    entry(Find::Name("together", SOURCES), "batch"),
    // The queen.
    entry(Find::Part("mailbox"), "Inbox, inbox"),
    entry(Find::Name("Letter", SOURCES), "Envelope"),
    entry(Find::Name("letter", QUEEN), "envelope"),
    entry(Find::Name("post", QUEEN), "send"),
    entry(Find::Name("Shell", QUEEN), "DriverContext"),
    entry(Find::Name("Directory", QUEEN), "TenantIndex"),
    entry(Find::Part("reign"), "ActivePolicy"),
    entry(Find::Name("InForce", EVERYWHERE), "ActivePolicy"),
    entry(Find::Name("Term", SOURCES), "PolicyGeneration"),
    entry(Find::Name("Kept", QUEEN), "HistoryEntry"),
    entry(Find::Name("Brought", QUEEN), "ApplicationPolicy"),
    entry(Find::Name("trial", SOURCES), "dry_run"),
    entry(Find::Name("PolicyTrial", EVERYWHERE), "DryRun"),
    entry(Find::Name("TrialDecision", EVERYWHERE), "DryRunDecision"),
    entry(Find::Name("Decisions", QUEEN), "DecisionHistory"),
    entry(Find::Name("JobLog", EVERYWHERE), "EventLog"),
    entry(Find::Part("pen"), "write lease"),
    entry(Find::Phrase("the pen"), "the write lease"),
    entry(Find::Part("piece"), "TokenChunk, chunk"),
    entry(Find::Part("pieces"), "TokenChunk, chunks"),
    entry(Find::Name("Life", EVERYWHERE), "OwnerLease"),
    entry(Find::Name("Lives", EVERYWHERE), "OwnerLease"),
    entry(Find::Phrase("sign of life"), "heartbeat"),
    entry(Find::Phrase("signs of life"), "heartbeats"),
    // Scripts.
    entry(Find::Name("Book", RHAI), "HelperRegistry"),
    entry(Find::Name("book", RHAI), "registry"),
    entry(Find::Part("chapter"), "section"),
    entry(Find::Name("Session", RHAI), "DecisionContext"),
    entry(Find::Name("Said", RHAI), "HelperError"),
    entry(Find::Name("Over", RHAI), "LimitExceeded"),
    // Models and devices.
    entry(Find::Part("speaker"), "CausalLm"),
    entry(Find::Part("voice"), "GenerationModel"),
    entry(Find::Name("Keys", CANDLE), "ConfigFields"),
    entry(Find::Name("Hope", SCHEDULER), "Feasibility"),
    entry(Find::Name("Site", SCHEDULER), "DeviceCandidate"),
    entry(Find::Name("short", &["rbee-core/src/scheduler/spawn"]), "shortfall"),
    // The transport.
    entry(Find::Part("bell"), "ShutdownSignal, shutdown"),
    entry(Find::Name("Patient", EVERYWHERE), "WriteTimeout"),
    entry(Find::Part("patience"), "timeout"),
    entry(Find::Part("figures"), "metrics"),
    entry(Find::Name("Doors", EVERYWHERE), "WorkerListeners"),
    entry(Find::Part("knock"), "connect"),
    entry(Find::Name("gate", SERVER), "middleware"),
    entry(Find::Name("Mark", &["rbee-transport-http/src/"]), "RequestId"),
    entry(Find::Name("Shape", SERVER), "ErrorFormat"),
    entry(Find::Part("examiner"), "health checks"),
    entry(Find::Name("Wish", EVERYWHERE), "the types of clap"),
    entry(Find::Name("Wrong", CONFIG), "the errors of clap and serde-saphyr"),
    entry(Find::Name("At", CONFIG), "the errors of clap and serde-saphyr"),
    entry(Find::Name("Kind", CONFIG), "the types of serde"),
    entry(Find::Name("Words", CONFIG), "the types of serde"),
    entry(Find::Name("Span", CONFIG), "the places of serde-saphyr"),
    entry(Find::Type("Engine", &["rbee-transport-http/src/"]), "EngineCommand"),
    entry(Find::Type("Answer", SOURCES), "a name that says whose answer it is"),
    entry(Find::Type("Entry", SOURCES), "a name that says what it is an entry of"),
    // Files.
    entry(Find::File("engine/lanes/line.rs"), "ordered_list.rs"),
    entry(Find::File("engine/lanes/spent.rs"), "fair_share.rs"),
    entry(Find::File("engine/marks.rs"), "worker_flags.rs"),
    entry(Find::File("together.rs"), "batch.rs"),
    entry(Find::File("mailbox.rs"), "inbox.rs"),
    entry(Find::File("errands.rs"), "hive_tasks.rs"),
    entry(Find::File("queen/loads.rs"), "load_progress.rs"),
    entry(Find::File("queen/decisions.rs"), "decision_history.rs"),
    entry(Find::File("queen/tenants/directory.rs"), "index.rs"),
    entry(Find::File("dice.rs"), "rng.rs"),
    entry(Find::File("sim/replay/asked.rs"), "nothing: the engine decides it"),
    entry(Find::File("trial.rs"), "dry_run.rs"),
    entry(Find::File("rhai/book.rs"), "helper_registry.rs"),
    entry(Find::File("rhai/moment.rs"), "clock.rs"),
    entry(Find::File("rhai/room.rs"), "eviction.rs"),
    entry(Find::File("rhai/pick.rs"), "selection.rs"),
    entry(Find::File("rhai/session.rs"), "context.rs"),
    entry(Find::File("candle/speaker.rs"), "causal_lm.rs"),
    entry(Find::File("candle/keys.rs"), "config_fields.rs"),
    entry(Find::File("sites.rs"), "device_candidates.rs"),
    entry(Find::File("sqlite/life.rs"), "owner_lease.rs"),
    entry(Find::File("sqlite/pieces.rs"), "token_chunks.rs"),
    entry(Find::File("patience.rs"), "write_timeout.rs"),
    entry(Find::File("figures.rs"), "metrics.rs"),
    entry(Find::File("server/hive/doors.rs"), "worker_listeners.rs"),
    entry(Find::File("server/queen/gate.rs"), "middleware.rs"),
    entry(Find::File("server/queen/waiting.rs"), "keep_alive.rs"),
    entry(Find::File("server/queen/text.rs"), "json_escape.rs"),
    entry(Find::File("server/reply.rs"), "response.rs"),
    // US spelling.
    entry(Find::Stem("behaviour"), "behavior"),
    entry(Find::Stem("catalogue"), "catalog"),
    entry(Find::Stem("colour"), "color"),
    entry(Find::Stem("favour"), "favor"),
    entry(Find::Stem("honour"), "honor"),
    entry(Find::Stem("initialis"), "initialize"),
    Entry {
        find: Find::Stem("licence"),
        instead: "license",
        except: &[("rbee-core/src/model_info/license.rs", "names of files that repositories have")],
    },
    entry(Find::Stem("neighbour"), "neighbor"),
    entry(Find::Stem("normalis"), "normalize"),
    entry(Find::Stem("organis"), "organize"),
    entry(Find::Stem("recognis"), "recognize"),
    entry(Find::Stem("serialis"), "serialize"),
    entry(Find::Stem("deserialis"), "deserialize"),
    entry(Find::Stem("summaris"), "summarize"),
    entry(Find::Stem("unrecognis"), "unrecognized"),
    // Prose.
    Entry {
        find: Find::Phrase("she"),
        instead: PROGRAM,
        except: &[("examples/models/bee-tiny/README.md", "answers of the model")],
    },
    entry(Find::Phrase("her"), PROGRAM),
    entry(Find::Phrase("hers"), PROGRAM),
    entry(Find::Phrase("herself"), PROGRAM),
    Entry {
        find: Find::Phrase("he"),
        instead: PROGRAM,
        except: &[("rbee-core/tests/support/checkpoint.rs", "parts of words")],
    },
    entry(Find::Phrase("him"), PROGRAM),
    entry(Find::Phrase("his"), PROGRAM),
    entry(Find::Phrase("passed over"), "ignored"),
    entry(Find::Phrase("passes over"), "ignores"),
    entry(Find::Phrase("pass over"), "ignore"),
    entry(Find::Phrase("says whether"), "returns true if"),
    entry(Find::Phrase("say whether"), "return true if"),
    entry(Find::Phrase("as it stands"), "by default"),
    entry(Find::Phrase("an earlier life"), "a previous run"),
    entry(Find::Phrase("earlier lives"), "previous runs"),
    entry(Find::Phrase("a later life"), "a later run"),
    entry(Find::Phrase("where nobody knows"), "if unknown"),
    entry(Find::Phrase("nobody knows"), "unknown"),
    entry(Find::Phrase("is told"), "gets, is sent, sees"),
    entry(Find::Phrase("are told"), "get, are sent, see"),
    entry(Find::Phrase("was told"), "got, was sent"),
    entry(Find::Phrase("by chance"), "at random"),
    entry(Find::Phrase("none where"), IF),
    entry(Find::Phrase("true where"), IF),
    entry(Find::Phrase("false where"), IF),
    entry(Find::Phrase("zero where"), IF),
    entry(Find::Phrase("fails where"), IF),
    entry(Find::Phrase("invalidrequest where"), IF),
    entry(Find::Phrase("notfound where"), IF),
];
