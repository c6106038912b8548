#!/usr/bin/env python3
"""Fills a store with finished builds: `seed_builds.py data_dir/busybee.sqlite3 N`. The master is stopped.

Clones the newest finished build, with its jobs, attempts and steps, until the project has N.
"""
import sqlite3
import sys

path, wanted = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path)
db.row_factory = sqlite3.Row


def rows(table, column, value):
    return [dict(row) for row in db.execute(f"SELECT * FROM {table} WHERE {column} = ?", (value,))]


def insert(table, row):
    names, places = ", ".join(row), ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(row.values()))


def last(table):
    return db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0]


build = dict(db.execute("SELECT * FROM builds WHERE finished_at IS NOT NULL ORDER BY id DESC LIMIT 1").fetchone())
jobs = rows("jobs", "build", build["id"])
attempts = {job["id"]: rows("attempts", "job", job["id"]) for job in jobs}
steps = {a["id"]: rows("steps", "attempt", a["id"]) for job in jobs for a in attempts[job["id"]]}
last_build, last_job, last_attempt = last("builds"), last("jobs"), last("attempts")
number = db.execute("SELECT max(number) FROM builds WHERE project = ?", (build["project"],)).fetchone()[0]
for _ in range(wanted - db.execute("SELECT count(*) FROM builds").fetchone()[0]):
    last_build, number = last_build + 1, number + 1
    insert("builds", {**build, "id": last_build, "number": number})
    for job in jobs:
        last_job += 1
        newest = None
        for attempt in attempts[job["id"]]:
            last_attempt += 1
            newest = last_attempt
            insert("attempts", {**attempt, "id": newest, "job": last_job})
            for step in steps[attempt["id"]]:
                insert("steps", {**step, "attempt": newest})
        insert("jobs", {**job, "id": last_job, "build": last_build, "attempt": newest})
for kind, value in (("build", last_build), ("job", last_job), ("attempt", last_attempt)):
    db.execute("UPDATE counters SET last = max(last, ?) WHERE kind = ?", (value, kind))
db.execute("UPDATE projects SET last_number = ? WHERE name = ?", (number, build["project"]))
db.commit()
print(db.execute("SELECT count(*) FROM builds").fetchone()[0], "builds")
