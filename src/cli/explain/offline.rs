//! The scene of a file: services in a catalog's JSON form, and a static configuration if one is named.

use super::Failed;
use crate::catalog::World;
use crate::cli::services::{self, Given};
use crate::config::{self, Input};
use crate::declare::file::Decoded;
use crate::diagnostic::Diagnostic;
use crate::explain::{Admission, Door, Scene, Servers, State, refused};
use crate::model::{Provider, ServerId};
use crate::runtime;
use crate::table::{self, Accepted, BuildOptions, Table};
use crate::tags::{self, TagOptions};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Servers that nobody has asked: all answer, and each service's round robin goes on from question to question.
#[derive(Default)]
pub(super) struct Untried(RefCell<HashMap<Arc<str>, u32>>);

impl Servers for Untried {
    fn state(&self, _: &ServerId) -> State {
        State::default()
    }

    fn turn(&self, service: &Arc<str>) -> u32 {
        self.0.borrow().get(service).copied().unwrap_or_default()
    }

    fn turned(&self, service: &Arc<str>, to: u32) {
        self.0.borrow_mut().insert(service.clone(), to);
    }
}

/// A scene over services; with a static configuration also over the files that it names and what is built in.
pub(super) fn scene(given: Given, config_file: Option<&str>) -> Result<Scene, Failed> {
    let Given { provider, world } = given;
    let Some(file) = config_file else {
        let read = services::tag_options(TagOptions::default(), &serde_json::Map::new()).map_err(Failed::Text)?;
        return Ok(of_world(&world, BTreeMap::from([(provider, read)])));
    };
    let loaded = config::load(&Input::of_process(vec![format!("--configFile={file}")])).map_err(Failed::Config)?;
    let settled = &loaded.settled;
    let public = settled.entry_points.values().filter(|ep| &*ep.name != config::ADMIN_ENTRY_POINT);
    let doors =
        public.map(|ep| Door::of(runtime::entry_point(ep, &config::Bound::default(), None), ep.address.port, ep.tls));
    let read = services::options_of(settled, provider).map_err(Failed::Text)?;
    let files = settled.files.as_ref().map(runtime::read_files).unwrap_or_default();
    let mut scene = new(&world, read, doors.collect(), &runtime::build_options(settled), files);
    scene.admission.services = runtime::services_allow(settled);
    Ok(scene)
}

/// A scene over a world; without a static configuration it has the entry points `web` and `websecure`, and one for
/// each port that a tag names, and `X-Forwarded-*` are believed.
pub(super) fn of_world(world: &World, options: BTreeMap<Provider, TagOptions>) -> Scene {
    let mut doors = vec![Door::new("web".into(), 80, false), Door::new("websecure".into(), 443, true)];
    let ports: Vec<u16> = named_ports(world, &options);
    doors.extend(ports.iter().map(|port| Door::new(tags::port_entry_point(*port), *port, false)));
    // nobody knows which proxies are trusted: a question that names one's header fields means them
    doors.iter_mut().for_each(|door| door.trust.everybody = true);
    let entry_point = |door: &Door| table::EntryPoint {
        name: door.name.clone(),
        tls: door.tls,
        as_default: false,
        middlewares: Vec::new(),
        tls_options: Default::default(),
    };
    let mut build = BuildOptions {
        entry_points: doors.iter().map(entry_point).collect(),
        primary: Provider::Nomad,
        internal: Default::default(),
    };
    let mut scene = new(world, options.clone(), doors, &build, Decoded::default());
    if !ports.is_empty() {
        build.entry_points.iter_mut().for_each(|e| e.tls |= e.name.starts_with("port-"));
        scene.secure = Some(built(world, options, &build, Decoded::default()).0);
    }
    scene
}

fn built(
    world: &World,
    options: BTreeMap<Provider, TagOptions>,
    build: &BuildOptions,
    files: Decoded,
) -> (Arc<Table>, Vec<Diagnostic>, crate::declare::Declarations) {
    let mut decoded = tags::decode(world, &options);
    decoded.declarations.insert(Provider::File, files.dynamic);
    let built = table::build(&decoded.declarations, &Accepted::default(), build);
    let mut problems = files.problems;
    problems.extend(decoded.diagnostics);
    problems.extend(built.diagnostics);
    (built.table, problems, decoded.declarations)
}

fn new(
    world: &World,
    options: BTreeMap<Provider, TagOptions>,
    doors: Vec<Door>,
    build: &BuildOptions,
    files: Decoded,
) -> Scene {
    let (table, problems, declarations) = built(world, options.clone(), build, files);
    let refused = refused(&declarations, &table, &problems);
    Scene {
        table,
        secure: None,
        doors,
        problems,
        refused,
        world: world.clone(),
        options,
        primary: build.primary,
        catalogs: Vec::new(),
        admission: Admission::default(),
    }
}

/// The ports that tags name and that stand for entry points of their own.
fn named_ports(world: &World, options: &BTreeMap<Provider, TagOptions>) -> Vec<u16> {
    let decoded = tags::decode(world, options);
    let routers = decoded.declarations.values().flat_map(|dynamic| dynamic.http.routers.values());
    let mut ports: Vec<u16> = routers
        .flat_map(|router| &router.entry_points)
        .filter_map(|name| name.strip_prefix("port-").and_then(|port| port.parse().ok()))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
