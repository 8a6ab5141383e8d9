//! Ports in tags: that of a service (`urlprefix-:8080/`), which all its routes carry, and those that need an entry point.

use super::{Made, Work};
use crate::migrate::remarks::{self, Told};
use crate::migrate::set::Tag;
use crate::tags::legacy::Prefix;

/// A tag that names the port of its service.
pub(super) struct ServicePort {
    service: usize,
    tag: usize,
    port: u16,
}

impl Work<'_> {
    /// Takes such a tag up; `off` where the service is switched off.
    pub(super) fn read_port(&mut self, service: usize, tag: usize, port: u16, off: bool) {
        let first = self.port_of(service).filter(|first| *first != port);
        match (first, self.set.services[service].fixed) {
            _ if off => self.refuse(service, tag, &remarks::switched_off()),
            (_, true) => self.refuse(service, tag, &remarks::fixed()),
            (Some(first), _) => self.refuse(service, tag, &remarks::other_port(first)),
            (None, _) => self.ports.push(ServicePort { service, tag, port }),
        }
    }

    /// The port of a service, where it is not the registered one.
    pub(super) fn port_of(&self, service: usize) -> Option<u16> {
        self.ports.iter().find(|one| one.service == service).map(|one| one.port)
    }

    /// What becomes of the tags that name their service's port: the other tags carry it, or one of its own where there are none.
    pub(super) fn make_ports(&mut self, made: &mut Made) {
        for one in std::mem::take(&mut self.ports) {
            if self.refused.keys().any(|(service, _)| *service == one.service) {
                self.refuse(one.service, one.tag, &remarks::port_of_a_rest());
                continue;
            }
            let routed = self.reads.iter().any(|read| read.service == one.service);
            let name = &self.set.services[one.service].name;
            let alone = !routed && !name.contains(Tag::HOLE);
            let line = format!("traefik.http.services.{name}.loadbalancer.server.port={}", one.port);
            made.insert((one.service, one.tag), if alone { vec![line] } else { Vec::new() });
            self.remark(one.service, Some(one.tag), &remarks::service_port(one.port));
        }
    }

    /// An entry point that only Fabio's listeners tell of.
    pub(super) fn missing_entry_point(&self, prefix: &Prefix) -> Option<Told> {
        let name = prefix.options.entry_points.first()?;
        let usual = [&self.options.web, &self.options.websecure].contains(&name);
        let port = name.strip_prefix("port-").filter(|_| !usual && !self.entry_points_known)?;
        Some(remarks::entry_point_needed(name, port))
    }
}
