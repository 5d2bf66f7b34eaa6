//! PostgreSQL under a load while everything is done to its container, and its own judgement of what
//! is left: invariants of pgbench's tables, amcheck's reading of every index and table, and page
//! checksums.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::support::{Named, eventually, finish, image, scratch, vm_process, vmrun};

/// Makes the database if there is none, with checksums, and serves it. It is made durable in one go,
/// here and after a crash, and its log is cut small: the test host's disk and CPU are slow.
const SERVE: &str = "[ -s \"$PGDATA/PG_VERSION\" ] || \
    { initdb -k -N -A trust --wal-segsize=1 -D \"$PGDATA\" >/dev/null && sync; }; \
    exec postgres -D \"$PGDATA\" -c shared_buffers=32MB -c recovery_init_sync_method=syncfs";

/// Where the data is: no volume of the image's, whose content no commit has.
const DATA: &str = "/var/lib/postgresql/live";

/// What is false, if anything: money that was made or lost, an index that does not fit its table, a
/// table whose tuples are damaged. Reading it all checks the checksums of its pages.
const JUDGE: &str = "\
    select 'balances' where (select sum(abalance) from pgbench_accounts) \
        <> (select coalesce(sum(delta), 0) from pgbench_history) \
      or (select sum(tbalance) from pgbench_tellers) \
        <> (select coalesce(sum(delta), 0) from pgbench_history) \
      or (select sum(bbalance) from pgbench_branches) \
        <> (select coalesce(sum(delta), 0) from pgbench_history); \
    select 'accounts' where (select count(*) from pgbench_accounts) <> 100000; \
    select c.relname, v.* from pg_class c, verify_heapam(c.oid) v where c.relkind = 'r'; \
    do $$ begin perform bt_index_parent_check(i.indexrelid, true) \
      from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam \
      where a.amname = 'btree'; end $$; \
    show data_checksums";

fn says(words: &[&str]) -> String {
    vmrun(words).run().succeeds()
}

/// Runs the server in a container, from this image.
fn serve(name: &Named, image: &str) -> String {
    let data = format!("PGDATA={DATA}");
    let run = ["run", "-d", "--name", &name.0, "-m", "512m", "-e", &data, "--entrypoint", "sh"];
    says(&[&run[..], &[image, "-c", SERVE]].concat()).trim().to_owned()
}

impl Named {
    fn accepts_connections(&self) {
        says(&["exec", &self.0, "sh", "-c", "until pg_isready -q; do sleep 0.2; done"]);
    }

    /// What `psql` in the container prints of these statements.
    #[track_caller]
    fn sql(&self, statements: &str) -> String {
        says(&["exec", &self.0, "psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-c", statements])
    }

    /// Checks that the load goes on.
    #[track_caller]
    fn goes_on(&self) {
        let count = || self.sql("select count(*) from pgbench_history").trim().parse::<u64>();
        let before = count().unwrap();
        eventually("transactions are committed", || count().unwrap() > before);
    }

    #[track_caller]
    fn is_sound(&self) {
        assert_eq!(self.sql(JUDGE), "on\n");
    }

    /// Puts a load on it: pgbench, and a client that notes what was committed to it.
    fn load(&self) -> Noting {
        says(&["exec", "-d", &self.0, "pgbench", "-n", "-c", "2", "-T", "3600", "postgres"]);
        let script = "i=$(psql -qAt -c 'select coalesce(max(n), 0) from noted'); \
            while i=$((i + 1)); do echo \"insert into noted values ($i) returning n;\"; done \
            | psql -qAt";
        let mut client = vmrun(["exec", &self.0, "sh", "-c", script]).spawn();
        let lines = BufReader::new(client.stdout.take().unwrap()).lines();
        let mut numbers = lines.map_while(|line| line.ok()?.parse::<u64>().ok());
        let first = numbers.next().expect("the client that notes commits ended before the first");
        let last = thread::spawn(move || numbers.last().unwrap_or(first));
        self.goes_on();
        Noting { client, last }
    }

    /// Starts it again after it was killed under load: what was committed is there, and sound.
    fn comes_back(&self, noting: Noting) {
        says(&["wait", &self.0]);
        finish(noting.client, "the client that notes commits");
        let last = noting.last.join().unwrap();
        says(&["start", &self.0]);
        self.accepts_connections();
        let found = self.sql("select max(n), count(*) from noted");
        let (most, count) = found.trim().split_once('|').unwrap();
        assert_eq!(most, count);
        assert!(most.parse::<u64>().unwrap() >= last, "{last} was committed: {found}");
        self.is_sound();
    }
}

/// A client that goes when its container ends.
struct Noting {
    client: Child,
    /// The last number that was committed to it.
    last: JoinHandle<u64>,
}

#[test]
fn database_under_load_survives_all_that_is_done_to_its_container() {
    let loaded = image("postgres:15");
    let begun = Instant::now();
    let told = |what: &str| println!("{:>6.1?} {what}", begun.elapsed());
    let db = Named::new("db");
    let id = serve(&db, loaded);
    told("started");
    db.accepts_connections();
    told("serves");
    says(&["exec", &db.0, "pgbench", "-i", "-q", "-s", "1", "postgres"]);
    db.sql("create extension amcheck; create table noted (n bigint primary key)");
    let noting = db.load();
    told("under load");

    says(&["pause", &db.0]);
    thread::sleep(Duration::from_secs(1));
    says(&["unpause", &db.0]);
    db.goes_on();
    told("paused and unpaused");

    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let inside = |path: &str| format!("{}:{path}", db.0);
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(path("given"), &bytes).unwrap();
    says(&["cp", &path("given"), &inside("/var/tmp/given")]);
    says(&["cp", &inside("/var/tmp/given"), &path("taken")]);
    assert!(fs::read(path("taken")).unwrap() == bytes, "4 MB came back otherwise");
    // Files that change meanwhile are copied as they are found.
    says(&["cp", &inside(&format!("{DATA}/base")), &path("base")]);
    assert!(fs::read_dir(path("base")).unwrap().count() > 2);
    let changes = says(&["diff", &db.0]);
    for line in ["A /var/tmp/given", &format!("A {DATA}/PG_VERSION")] {
        assert!(changes.lines().any(|found| found == line), "no {line} in {changes}");
    }
    db.goes_on();
    told("copied and compared");

    let image = format!("{}:live", db.0);
    says(&["commit", &db.0, &image]);
    db.goes_on();
    told("committed");

    says(&["kill", &db.0]);
    db.comes_back(noting);
    told("killed, started, sound");

    let noting = db.load();
    let vm = vm_process(&id).to_string();
    Command::new("kill").args(["-KILL", &vm]).status().unwrap();
    db.comes_back(noting);
    told("its VM killed, started, sound");

    let copy = Named::new("copy");
    serve(&copy, &image);
    copy.accepts_connections();
    copy.is_sound();
    assert_eq!(copy.sql("select max(n) = count(*) from noted"), "t\n");
    told("its image sound");
    says(&["stop", "-t", "60", &copy.0]);
    says(&["rm", &copy.0]);
    says(&["rmi", &image]);
}
