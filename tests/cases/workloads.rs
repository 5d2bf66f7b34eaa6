//! Real programs of real images.

use std::{io::BufReader, time::Duration};

use crate::support::{Named, finish, image, read_until, vmrun};

#[test]
fn python_program_runs() {
    let program = "import sqlite3, json, threading, multiprocessing, os\n\
        db = sqlite3.connect('/tmp/x.db'); db.execute('create table t(a)')\n\
        db.executemany('insert into t values(?)', [(i,) for i in range(1000)]); db.commit()\n\
        t = [threading.Thread(target=lambda: sum(range(10000))) for _ in range(8)]\n\
        [x.start() for x in t]; [x.join() for x in t]\n\
        with multiprocessing.Pool(2) as p: squares = p.map(abs, range(-50, 0))\n\
        print(json.dumps([db.execute('select sum(a) from t').fetchone()[0], sum(squares), os.getuid()]))";
    let out = vmrun(["run", "--rm", image("python:3"), "-c", program]).run().succeeds();
    assert_eq!(out, "[499500, 1275, 1000]\n");
}

/// initdb, a thousand transactions, stop, start again: the data is there.
#[test]
fn postgres_keeps_its_data() {
    let name = Named::new("postgres");
    let script = "set -e; export PATH=$PATH:$(echo /usr/lib/postgresql/*/bin) PGDATA=/tmp/pg\n\
        cd /tmp\n\
        if [ ! -d $PGDATA ]; then initdb -A trust >/dev/null; fi\n\
        pg_ctl -w -l /tmp/log -o '-k /tmp' start >/dev/null\n\
        psql -h /tmp -qAt postgres -c 'create table if not exists t(n int)'\n\
        for i in $(seq 1000); do echo \"begin; insert into t values($i); commit;\"; done | psql -h /tmp -qAt postgres\n\
        psql -h /tmp -qAt postgres -c 'select count(*), sum(n) from t'\n\
        pg_ctl -w -m fast stop >/dev/null";
    let long = Duration::from_secs(300);
    let run = ["run", "--name", &name.0, "--entrypoint", "sh", image("postgres:15"), "-c", script];
    let out = vmrun(run).patience(long).run();
    assert_eq!(out.succeeds(), "1000|500500\n");
    let out = vmrun(["start", "-a", &name.0]).patience(long).run();
    assert_eq!(out.succeeds(), "2000|1001000\n");
}

#[test]
fn postgres_stops_by_the_image_s_signal() {
    let name = Named::new("server");
    let mut child = vmrun(["run", "--name", &name.0, image("postgres:15")]).spawn();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until("ready to accept connections", &mut stderr);
    vmrun(["stop", "-t", "100", &name.0]).run().succeeds();
    read_until("database system is shut down", &mut stderr);
    assert_eq!(finish(child, "vmrun run").status.code(), Some(0));
    let out = vmrun(["ps", "-a"]).run().succeeds();
    assert!(out.lines().any(|line| line.contains(&name.0) && line.contains("Exited (0)")), "{out}");
}

#[test]
fn dpkg_installs_a_local_package() {
    let script = "set -e; mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin\n\
        printf 'Package: hello-vmrun\\nVersion: 1.0\\nArchitecture: all\\nMaintainer: nobody <n@example.org>\\nDescription: test\\n' > /tmp/p/DEBIAN/control\n\
        printf '#!/bin/sh\\necho installed\\n' > /tmp/p/usr/bin/hello-vmrun; chmod 755 /tmp/p/usr/bin/hello-vmrun\n\
        dpkg-deb -b /tmp/p /tmp/hello.deb >/dev/null; dpkg -i /tmp/hello.deb >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }\n\
        hello-vmrun; dpkg -s hello-vmrun | grep Status";
    let out = vmrun(["run", "--rm", image("debian:demo"), "sh", "-c", script]).run().succeeds();
    assert_eq!(out, "installed\nStatus: install ok installed\n");
}
