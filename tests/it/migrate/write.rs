//! `--write` and `--undo`: files are replaced whole and come back byte for byte.

use super::{command, contents, job, jobs, migrate, text};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const LEGACY: &str = "[\"urlprefix-a.example.com/\"]";

#[test]
fn all_files_are_written_and_come_back() {
    let dir = jobs();
    let old = contents(dir.path());
    let (_, out, err) = migrate(&["--write", text(dir.path())]);
    let new = contents(dir.path());
    let wrote = out.lines().filter(|line| line.starts_with("wrote ")).count();
    assert!(wrote >= 25, "{out}{err}");
    assert_eq!(new.keys().filter(|name| name.ends_with(".bak")).count(), wrote);
    for (name, content) in &old {
        match new.get(&format!("{name}.bak")) {
            Some(backup) => assert!(backup == content && new[name] != *content, "{name}"),
            None => assert_eq!(new[name], *content, "{name}"),
        }
    }
    // A second run has nothing to do, and the backups stay those of the beginning.
    let (_, out, _) = migrate(&["--write", text(dir.path())]);
    assert!(!out.contains("wrote "), "{out}");
    assert_eq!(contents(dir.path()), new);
    let (_, out, err) = migrate(&["--write", "--drop-legacy", text(dir.path())]);
    assert!(out.contains("wrote "), "{out}{err}");
    let (code, out, err) = migrate(&["--undo", text(dir.path())]);
    assert_eq!((code, out.lines().count()), (Some(0), wrote), "{out}{err}");
    assert_eq!(contents(dir.path()), old);
    assert_eq!(
        migrate(&["--undo", text(dir.path())]),
        (Some(0), "no backups, nothing to undo\n".into(), String::new())
    );
}

#[test]
fn backups_are_left_out_where_nobody_wants_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.nomad");
    fs::write(&file, job(LEGACY)).expect("written");
    let (code, _, err) = migrate(&["--write", "--no-backup", text(&file)]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(contents(dir.path()).len(), 1);
    let (code, _, err) = migrate(&["--undo", text(&file)]);
    assert_eq!((code, err.contains("has no backup")), (Some(1), true), "{err}");
}

#[test]
fn what_was_changed_by_hand_since_is_not_undone() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.nomad");
    fs::write(&file, job(LEGACY)).expect("written");
    assert_eq!(migrate(&["--write", text(&file)]).0, Some(0));
    let by_hand = fs::read_to_string(&file).expect("the file").replace("group \"g\"", "group \"h\"");
    fs::write(&file, &by_hand).expect("written");
    let (code, _, err) = migrate(&["--undo", text(&file)]);
    assert_eq!((code, err.contains("changed by hand")), (Some(1), true), "{err}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), by_hand);
    assert_eq!(fs::read_to_string(dir.path().join("a.nomad.bak")).expect("the backup"), job(LEGACY));
    // Nor is the backup of another content taken for one of this.
    fs::write(&file, by_hand.replace("traefik.enable=true", "y")).expect("written");
    let (code, _, err) = migrate(&["--write", text(&file)]);
    assert_eq!((code, err.contains("backup")), (Some(1), true), "{err}");
}

#[test]
fn tags_that_came_by_hand_are_not_undone() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.nomad");
    for tag in
        ["urlprefix-new.example.com/", "traefik.http.routers.mine.rule=Host(`x`)", "https://new.example.com", "x"]
    {
        fs::write(&file, job(LEGACY)).expect("written");
        assert_eq!(migrate(&["--write", text(&file)]).0, Some(0));
        let new = fs::read_to_string(&file).expect("the file");
        let by_hand = new.replace("tags = [", &format!("tags = [\"{tag}\", "));
        fs::write(&file, &by_hand).expect("written");
        let (code, _, err) = migrate(&["--undo", text(&file)]);
        assert_eq!((code, err.contains("changed by hand")), (Some(1), true), "{tag}: {err}");
        assert_eq!(fs::read_to_string(&file).expect("the file"), by_hand);
        fs::write(&file, new).expect("written");
        assert_eq!(migrate(&["--undo", text(&file)]).0, Some(0));
    }
}

#[test]
fn many_files_are_written_and_nothing_is_left_beside_them() {
    let dir = tempfile::tempdir().expect("a folder");
    // More than wait on disk together, and one that cannot be written.
    for n in 0..300 {
        fs::write(dir.path().join(format!("{n}.nomad")), job(&format!("[\"urlprefix-h{n}.example.com/\"]")))
            .expect("written");
    }
    fs::write(dir.path().join("7.nomad.bak"), job("[\"x\"]").replace("group", "other")).expect("written");
    // Of a run that was killed, of one that goes on, and of nobody here.
    let before = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    for (name, old) in [(".8.nomad.rust-lb-1-0", true), (".9.nomad.rust-lb-1-0", false), (".x.nomad.rust-lb-1-0", true)]
    {
        let file = fs::File::create(dir.path().join(name)).expect("written");
        old.then(|| file.set_modified(before).expect("set back"));
    }
    let (code, out, err) = migrate(&["--write", text(dir.path())]);
    assert_eq!((code, out.lines().filter(|line| line.starts_with("wrote ")).count()), (Some(1), 299), "{err}");
    assert!(err.contains("7.nomad.bak` is of another content"), "{err}");
    let left: Vec<String> = contents(dir.path()).into_keys().filter(|name| name.starts_with('.')).collect();
    assert_eq!(left, [".9.nomad.rust-lb-1-0", ".x.nomad.rust-lb-1-0"]);
    assert_eq!(
        fs::read_to_string(dir.path().join("7.nomad")).expect("the file"),
        job("[\"urlprefix-h7.example.com/\"]")
    );
}

#[test]
fn links_stay_and_permissions_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("real")).expect("a folder");
    let (file, link) = (dir.path().join("real/a.nomad"), dir.path().join("link.nomad"));
    fs::write(&file, job(LEGACY)).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("changed");
    symlink("real/a.nomad", &link).expect("a link");
    // The link and its target are one file, which is edited once.
    let (code, out, err) = migrate(&["--write", text(&link), text(&file)]);
    assert_eq!((code, out.matches("wrote ").count()), (Some(0), 1), "{out}{err}");
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    let about = fs::metadata(&file).expect("the file");
    assert_eq!((about.permissions().mode() & 0o777, about.nlink()), (0o640, 1));
    assert!(fs::read_to_string(&file).expect("the file").contains("traefik.enable"));
    assert_eq!(migrate(&["--undo", text(&link)]).0, Some(0));
    assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
    assert_eq!(fs::read_to_string(&file).expect("the file"), job(LEGACY));
    assert_eq!(contents(&dir.path().join("real")).len(), 1);
}

#[test]
fn read_only_files_are_left_and_others_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (locked, open) = (dir.path().join("a.nomad"), dir.path().join("b.nomad"));
    fs::write(&locked, job("[\"urlprefix-locked.example.com/\"]")).expect("written");
    fs::write(&open, job("[\"urlprefix-open.example.com/\"]")).expect("written");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o444)).expect("changed");
    let (code, out, err) = migrate(&["--write", text(dir.path())]);
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(err.contains("read-only") && err.contains("a.nomad") && out.contains("b.nomad"), "{out}{err}");
    assert!(!fs::read_to_string(&locked).expect("the file").contains("traefik"));
    assert!(fs::read_to_string(&open).expect("the file").contains("traefik"));
}

/// Whoever looks sees the old or the new file, and a run that is killed leaves only such.
#[test]
fn only_whole_files_are_ever_seen() {
    let dir = tempfile::tempdir().expect("a folder");
    let old = |n: usize| job(&format!("[\"urlprefix-h{n}.example.com/\"]")) + &"# filler\n".repeat(2000);
    let write =
        |dir: &Path| (0..60).for_each(|n| fs::write(dir.join(format!("{n:03}.nomad")), old(n)).expect("written"));
    write(dir.path());
    let whole = |content: &str, n: usize| content.len() >= old(n).len() && content.ends_with("# filler\n");
    let mut cut_short = false;
    for turn in 0..6u64 {
        let mut child = command(&["migrate", "--write", text(dir.path())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let begin = Instant::now();
        // Killed as soon as so many files have their backup, in the middle of the next ones.
        while begin.elapsed() < Duration::from_secs(60) && child.try_wait().expect("a state").is_none() {
            for n in 0..60 {
                let content = fs::read_to_string(dir.path().join(format!("{n:03}.nomad"))).expect("always there");
                assert!(whole(&content, n), "{n}: {} bytes", content.len());
            }
            let backups = contents(dir.path()).keys().filter(|name| name.ends_with(".bak")).count() as u64;
            if backups > turn * 8 {
                cut_short |= child.kill().is_ok();
            }
        }
        child.wait().expect("it ended");
    }
    assert!(cut_short);
    let (code, out, err) = migrate(&["--write", text(dir.path())]);
    assert_eq!(code, Some(0), "{out}{err}");
    let (code, out, err) = migrate(&["--undo", text(dir.path())]);
    assert_eq!((code, out.lines().count()), (Some(0), 60), "{out}{err}");
    for n in 0..60 {
        assert_eq!(fs::read_to_string(dir.path().join(format!("{n:03}.nomad"))).expect("the file"), old(n));
    }
}
