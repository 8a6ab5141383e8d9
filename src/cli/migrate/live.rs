//! The services that run now, read once from a catalog with the client that `serve` asks it with. Nothing is written
//! there: a catalog's tags are those of the jobs.

use super::Options;
use crate::catalog::http::{Agent, Lane, Product, escape};
use crate::catalog::{Instance, Timing, consul, nomad};
use crate::certs;
use crate::config::{self, CatalogCommon, Input};
use crate::migrate::{Place, Service, Tag};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads the catalogs that are named; what is wrong is told for people.
pub(super) fn read(options: &Options) -> Result<Vec<Service>, String> {
    let mut all = Vec::new();
    for (product, address) in [(Product::Consul, &options.from_consul), (Product::Nomad, &options.from_nomad)] {
        let Some(address) = address else { continue };
        let common = common(product, address)?;
        certs::install_provider();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot ask {address}: {error}"))?;
        let read = runtime.block_on(services(product, &common));
        let hint = "is it the address of an agent that runs, and does the token let it be read?";
        all.extend(read.map_err(|error| format!("the catalog at {address} cannot be read: {error}\nhint: {hint}"))?);
    }
    Ok(all)
}

/// How the catalog is asked: token and TLS are those of the environment, as for `serve`.
fn common(product: Product, address: &str) -> Result<CatalogCommon, String> {
    let provider = match product {
        Product::Consul => "consulCatalog",
        Product::Nomad => "nomad",
    };
    let flag = format!("--providers.{provider}.endpoint.address={address}");
    let input = Input { default_paths: Vec::new(), ..Input::of_process(vec![flag]) };
    let told = |problems: Vec<crate::diagnostic::Diagnostic>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let settled = config::load(&input).map_err(told)?.settled;
    let common = match product {
        Product::Consul => settled.consul.map(|consul| consul.common),
        Product::Nomad => settled.nomad.map(|nomad| nomad.common),
    };
    common.ok_or_else(|| format!("`{address}` names no catalog"))
}

/// A namespace's services in Nomad's `/v1/services`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Namespace {
    namespace: String,
    services: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    service_name: String,
}

async fn services(product: Product, common: &CatalogCommon) -> Result<Vec<Service>, String> {
    let timing = Timing::default();
    let agent = Agent::new(product, common, timing).map_err(|error| error.to_string())?;
    let lane = agent.lane().map_err(|error| error.to_string())?;
    let address: Arc<str> = agent.address().into();
    let mut all = Vec::new();
    match product {
        Product::Consul => {
            let body = ask(&lane, "/v1/catalog/services", timing).await?;
            let names: BTreeMap<String, Vec<String>> = decoded(&body)?;
            for name in names.keys() {
                let body = ask(&lane, &format!("/v1/health/service/{}", escape(name)), timing).await?;
                let instances = consul::decode::service(&body).map_err(|error| error.to_string())?;
                all.extend(instances.iter().map(|instance| service(name, "", instance, &address)));
            }
        }
        Product::Nomad => {
            let body = ask(&lane, "/v1/services?namespace=*", timing).await?;
            for Namespace { namespace, services } in decoded::<Vec<Namespace>>(&body)? {
                for Named { service_name } in services {
                    let path = format!("/v1/service/{}?namespace={}", escape(&service_name), escape(&namespace));
                    let body = ask(&lane, &path, timing).await?;
                    for read in nomad::decode::service(&body).map_err(|error| error.to_string())? {
                        all.push(service(&read.key.name, &read.key.namespace, &read.instance, &address));
                    }
                }
            }
        }
    }
    Ok(all)
}

async fn ask(lane: &Lane, path: &str, timing: Timing) -> Result<Vec<u8>, String> {
    let answer = lane.read(path, false, timing.waits.read, timing.stale_bound).await;
    answer.map(|answer| answer.body).map_err(|error| error.to_string())
}

fn decoded<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("its list of services cannot be read: {error}"))
}

/// An instance as a service of the set: its tags are its own.
fn service(name: &str, namespace: &str, instance: &Instance, catalog: &Arc<str>) -> Service {
    let place = Place { file: catalog.clone(), line: 0, column: 0 };
    let host = if instance.address.is_empty() { &instance.node_address } else { &instance.address };
    let tag = |text: &Arc<str>| Tag { text: text.clone(), holes: Vec::new(), place: place.clone() };
    Service {
        name: name.into(),
        namespace: namespace.into(),
        count: 1,
        address: (instance.port != 0).then(|| (host.clone(), instance.port)),
        tags: instance.tags.iter().map(tag).collect(),
        place: place.clone(),
        ..Service::default()
    }
}
