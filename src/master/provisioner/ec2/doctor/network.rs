//! The way from an instance to the master, to its forge and its mirrors: subnets, routes, network ACLs,
//! DNS, security groups. What is there is read; nothing is tried.

use std::collections::BTreeSet;

use crate::master::provisioner::Finding;
use crate::master::provisioner::ec2::Ec2Provisioner;
use crate::master::provisioner::ec2::answers::Subnet;
use crate::master::provisioner::ec2::answers::Subnets;
use crate::master::provisioner::ec2::doctor::POLICY;
use crate::master::provisioner::ec2::doctor::answers::AclEntry;
use crate::master::provisioner::ec2::doctor::answers::DnsSupport;
use crate::master::provisioner::ec2::doctor::answers::Group;
use crate::master::provisioner::ec2::doctor::answers::Groups;
use crate::master::provisioner::ec2::doctor::answers::NetworkAcl;
use crate::master::provisioner::ec2::doctor::answers::NetworkAcls;
use crate::master::provisioner::ec2::doctor::answers::Permission;
use crate::master::provisioner::ec2::doctor::answers::Route;
use crate::master::provisioner::ec2::doctor::answers::RouteTable;
use crate::master::provisioner::ec2::doctor::answers::RouteTables;
use crate::master::provisioner::ec2::error::CallError;
use crate::master::provisioner::ec2::query::Query;
use crate::master::provisioner::ec2::surroundings::GROUP_ID;
use crate::runtime::together;

/// Everywhere.
const ANYWHERE: &str = "0.0.0.0/0";

/// Where answers come back to: the ports that Linux dials from (`ip_local_port_range`).
const RETURN_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// What forges and mirrors listen on.
const HTTPS: u16 = 443;

/// VPCs of one pool that are looked at, at most.
const VPCS_MAX: usize = 8;

/// What subnets there are for a pool, and what was found of them.
#[derive(Default)]
pub(super) struct Places {
    pub(super) subnets: Vec<Subnet>,
    /// Whether they are EC2's choice: the default ones.
    pub(super) are_default: bool,
}

impl Ec2Provisioner {
    /// The subnets in which instances would be, or why that cannot be told.
    pub(super) async fn subnet_choice(&self, found: &mut Vec<Finding>) -> Places {
        let named = &self.settings.subnets;
        let are_default = named.is_empty();
        let query = match are_default {
            true => Query::new("DescribeSubnets").with_filter(1, "default-for-az", &["true"]),
            false => Query::new("DescribeSubnets")
                .with_list("SubnetId", named.iter().map(String::as_str)),
        };
        let subnets = match self.ask::<Subnets>(&query).await {
            Ok(subnets) => subnets.subnet_set.item,
            Err(error) => {
                let fix = "name subnets of this region, and let the master describe them";
                found.push(Finding::bad(error.sentence, fix));
                return Places::default();
            }
        };
        if are_default && subnets.is_empty() {
            found.push(Finding::bad(
                format!("no subnets are named, and {} has no default VPC", self.settings.region),
                "name subnets, or make one: aws ec2 create-default-vpc",
            ));
        } else if are_default {
            let zones: Vec<&str> =
                subnets.iter().map(|one| one.availability_zone.as_str()).collect();
            let zones = zones.join(", ");
            let what =
                format!("no subnets are named: EC2 chooses one of the default VPC ({zones})");
            found.push(Finding::good(what));
        }
        Places { subnets, are_default }
    }

    /// Whether instances in these subnets get anywhere. `port` is the master's.
    pub(super) async fn ways_out(&self, places: &Places, port: u16) -> Vec<Finding> {
        let vpcs: BTreeSet<&str> = places.subnets.iter().map(|one| one.vpc_id.as_str()).collect();
        let vpcs: Vec<&str> = vpcs.into_iter().filter(|id| !id.is_empty()).take(VPCS_MAX).collect();
        if vpcs.is_empty() {
            return Vec::new();
        }
        let tables = Query::new("DescribeRouteTables").with_filter(1, "vpc-id", &vpcs);
        let acls = Query::new("DescribeNetworkAcls").with_filter(1, "vpc-id", &vpcs);
        let (tables, acls, dns) = tokio::join!(
            self.ask::<RouteTables>(&tables),
            self.ask::<NetworkAcls>(&acls),
            together::all(vpcs.iter().map(|vpc| self.dns(vpc))),
        );
        let mut found = Vec::new();
        let tables = self.or_say(tables, &mut found).map(|tables| tables.route_table_set.item);
        let acls = self.or_say(acls, &mut found).map(|acls| acls.network_acl_set.item);
        let tables = tables.unwrap_or_default();
        let acls = acls.unwrap_or_default();
        found.extend(
            places.subnets.iter().flat_map(|subnet| about_subnet(subnet, self.settings.ipv6)),
        );
        for alike in self.alike(places, &tables, &acls) {
            let names = alike.names();
            let of_them: Vec<Finding> = about_route(&names, &alike)
                .into_iter()
                .chain(about_acl(&names, &alike, port))
                .collect();
            if of_them.is_empty() && !places.are_default {
                let way = if alike.is_public { "a public address" } else { "a way out by NAT" };
                found.extend(
                    alike.subnets.iter().filter(|one| is_usable(one, self.settings.ipv6)).map(
                        |subnet| {
                            let Subnet { subnet_id, availability_zone: zone, .. } = subnet;
                            let free = subnet.available_ip_address_count;
                            let what = format!(
                                "{subnet_id} in {zone} has {free} free addresses, and {way}"
                            );
                            Finding::good(what)
                        },
                    ),
                );
            }
            found.extend(of_them);
        }
        found.extend(dns.into_iter().flatten());
        found
    }

    /// Subnets of which the same is to be said, together: a default VPC has six.
    fn alike<'a>(
        &self,
        places: &'a Places,
        tables: &'a [RouteTable],
        acls: &'a [NetworkAcl],
    ) -> Vec<Alike<'a>> {
        let mut groups: Vec<Alike<'a>> = Vec::new();
        for subnet in &places.subnets {
            let one = Alike {
                subnets: vec![subnet],
                is_public: self.settings.public_ip.unwrap_or(subnet.map_public_ip_on_launch),
                table: table_of(subnet, tables),
                acl: acl_of(subnet, acls),
            };
            match groups.iter_mut().find(|group| group.key() == one.key()) {
                Some(group) => group.subnets.push(subnet),
                None => groups.push(one),
            }
        }
        groups
    }

    /// What came, or nothing and the reason why it did not.
    fn or_say<T>(&self, answer: Result<T, CallError>, found: &mut Vec<Finding>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                found.push(Finding::doubtful(error.sentence, POLICY));
                None
            }
        }
    }

    async fn dns(&self, vpc: &str) -> Option<Finding> {
        let query = Query::new("DescribeVpcAttribute")
            .with("VpcId", vpc)
            .with("Attribute", "enableDnsSupport");
        match self.ask::<DnsSupport>(&query).await {
            Ok(answer) if answer.enable_dns_support.value => None,
            Ok(_) => Some(Finding::doubtful(
                format!("{vpc} has no DNS: instances there resolve no name"),
                "aws ec2 modify-vpc-attribute --enable-dns-support, unless its DHCP options name a server",
            )),
            Err(error) => Some(Finding::doubtful(error.sentence, POLICY)),
        }
    }

    /// Whether security groups let instances out, and nothing in.
    pub(super) async fn groups(&self, places: &Places, port: u16) -> Vec<Finding> {
        if self.settings.security_groups.is_empty() {
            return vec![Finding::doubtful(
                "no security groups are named: instances get the VPC's default one".to_owned(),
                "name one without inbound rules, as docs/ec2.md shows",
            )];
        }
        let ids = self.settings.security_groups.iter().map(String::as_str);
        let ids: Vec<&str> = ids.filter(|group| group.starts_with(GROUP_ID)).collect();
        if ids.is_empty() {
            return Vec::new();
        }
        let query = Query::new("DescribeSecurityGroups").with_list("GroupId", ids);
        let groups = match self.ask::<Groups>(&query).await {
            Ok(groups) => groups.security_group_info.item,
            Err(error) => {
                return vec![Finding::bad(error.sentence, "name groups of this region and VPC")];
            }
        };
        about_groups(&groups, places, port)
    }
}

fn about_subnet(subnet: &Subnet, has_ipv6: bool) -> Vec<Finding> {
    let (id, zone) = (&subnet.subnet_id, &subnet.availability_zone);
    let mut found = Vec::new();
    if subnet.ipv6_native && !has_ipv6 {
        found.push(Finding::bad(
            format!("{id} in {zone} has IPv6 alone, which instances are not asked for with"),
            "write ipv6 = true, where the master's url is one that IPv6 reaches, or name a subnet with IPv4",
        ));
    } else if subnet.available_ip_address_count == 0 && !subnet.ipv6_native {
        found.push(Finding::bad(
            format!("{id} in {zone} has no free address"),
            "name another subnet, or make room in this one",
        ));
    }
    found
}

fn is_usable(subnet: &Subnet, has_ipv6: bool) -> bool {
    about_subnet(subnet, has_ipv6).is_empty()
}

/// Subnets with the same ways in and out.
struct Alike<'a> {
    subnets: Vec<&'a Subnet>,
    is_public: bool,
    table: Option<&'a RouteTable>,
    acl: Option<&'a NetworkAcl>,
}

impl Alike<'_> {
    fn key(&self) -> (bool, Option<&str>, Option<&str>) {
        let table = self.table.map(|table| table.route_table_id.as_str());
        (self.is_public, table, self.acl.map(|acl| acl.network_acl_id.as_str()))
    }

    /// `subnet-a`; `subnet-a, subnet-b and 4 more`.
    fn names(&self) -> String {
        let shown: Vec<&str> =
            self.subnets.iter().take(2).map(|subnet| subnet.subnet_id.as_str()).collect();
        match self.subnets.len().saturating_sub(shown.len()) {
            0 => shown.join(" and "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    }
}

/// A subnet's own route table, or its VPC's.
fn table_of<'a>(subnet: &Subnet, tables: &'a [RouteTable]) -> Option<&'a RouteTable> {
    let id = &subnet.subnet_id;
    let own = tables.iter().find(|table| {
        table.association_set.item.iter().any(|association| association.subnet_id == *id)
    });
    let main = tables.iter().find(|table| {
        let is_main = table.association_set.item.iter().any(|association| association.main);
        table.vpc_id == subnet.vpc_id && is_main
    });
    own.or(main)
}

fn acl_of<'a>(subnet: &Subnet, acls: &'a [NetworkAcl]) -> Option<&'a NetworkAcl> {
    let is_its = |acl: &&NetworkAcl| {
        acl.association_set.item.iter().any(|one| one.subnet_id == subnet.subnet_id)
    };
    acls.iter().find(is_its)
}

/// Where the traffic of subnets to everywhere goes.
fn about_route(id: &str, of: &Alike<'_>) -> Option<Finding> {
    let (table, is_public) = (of.table?, of.is_public);
    let to = |route: &&Route| {
        route.destination_cidr_block == ANYWHERE || route.destination_ipv6_cidr_block == "::/0"
    };
    let default = table.route_set.item.iter().find(to);
    let table = &table.route_table_id;
    match default {
        None => Some(Finding::doubtful(
            format!(
                "instances in {id} have no way to the internet: {table} has no route to {ANYWHERE}"
            ),
            "add one to a NAT or internet gateway, unless forge, mirrors and master are all reached without",
        )),
        Some(route) if route.state == "blackhole" => Some(Finding::bad(
            format!(
                "the route of {id} to the internet leads nowhere: its target in {table} is gone"
            ),
            "make the gateway again, and point the route at it",
        )),
        Some(route) if route.gateway_id.starts_with("igw-") && !is_public => Some(Finding::bad(
            format!(
                "instances in {id} get no public address, and its route leads to {}, which takes \
                 only what has one",
                route.gateway_id
            ),
            "set public_ip = true, or name a subnet whose route leads to a NAT gateway",
        )),
        Some(_) => None,
    }
}

/// Whether the ACL of subnets lets connections out, and their answers back in.
fn about_acl(id: &str, of: &Alike<'_>, port: u16) -> Option<Finding> {
    let acl = of.acl?;
    let (entries, name) = (&acl.entry_set.item, &acl.network_acl_id);
    let shut: Vec<String> = [port, HTTPS]
        .into_iter()
        .filter(|port| !passes(entries, true, *port))
        .map(|port| port.to_string())
        .collect();
    if !shut.is_empty() {
        let ports = shut.join(" and ");
        return Some(Finding::doubtful(
            format!("the network ACL {name} of {id} lets nothing out to port {ports} everywhere"),
            "allow TCP out to the master's port and to 443 and 80 of forge and mirrors",
        ));
    }
    let edges = entries.iter().filter_map(|entry| entry.port_range);
    let edges = edges.flat_map(|range| {
        [range.from.saturating_sub(1), range.from, range.to, range.to.saturating_add(1)]
    });
    let mut edges = edges.chain([*RETURN_PORTS.start(), *RETURN_PORTS.end()]);
    let closed = edges.find(|port| RETURN_PORTS.contains(port) && !passes(entries, false, *port));
    closed.map(|port| {
        Finding::doubtful(
            format!(
                "the network ACL {name} of {id} keeps answers out: TCP to port {port} is not let in \
                 from everywhere"
            ),
            "network ACLs do not remember connections: allow TCP in to ports 32768-60999",
        )
    })
}

/// Whether TCP to a port passes, from or to everywhere. Rules for parts of the world decide nothing here.
fn passes(entries: &[AclEntry], egress: bool, port: u16) -> bool {
    let fits = |entry: &&AclEntry| {
        let is_tcp = entry.protocol == "-1" || entry.protocol == "6";
        let has_port = entry.port_range.is_none_or(|range| (range.from..=range.to).contains(&port));
        entry.egress == egress && is_tcp && entry.cidr_block == ANYWHERE && has_port
    };
    let first = entries.iter().filter(fits).min_by_key(|entry| entry.rule_number);
    first.is_some_and(|entry| entry.rule_action == "allow")
}

fn about_groups(groups: &[Group], places: &Places, port: u16) -> Vec<Finding> {
    let mut found = Vec::new();
    for group in groups {
        let id = &group.group_id;
        let elsewhere = places.subnets.iter().find(|subnet| {
            !subnet.vpc_id.is_empty() && !group.vpc_id.is_empty() && subnet.vpc_id != group.vpc_id
        });
        if let Some(subnet) = elsewhere {
            found.push(Finding::bad(
                format!("{id} is of {}, {} of {}", group.vpc_id, subnet.subnet_id, subnet.vpc_id),
                "name groups and subnets of one VPC",
            ));
        }
        found.push(match group.ip_permissions.item.is_empty() {
            true => Finding::good(format!("{id} lets nothing in")),
            false => Finding::doubtful(
                format!("{id} has inbound rules"),
                "workers need none: they call the master",
            ),
        });
    }
    // What one of them lets out is let out.
    let rules: Vec<&Permission> =
        groups.iter().flat_map(|group| &group.ip_permissions_egress.item).collect();
    if !rules.iter().any(|rule| lets_out(rule, port)) {
        found.push(Finding::bad(
            format!("no security group lets instances out to port {port}, where the master is"),
            "add an outbound rule for TCP to that port",
        ));
    } else if !rules.iter().any(|rule| lets_out(rule, HTTPS)) {
        found.push(Finding::doubtful(
            "no security group lets instances out to port 443".to_owned(),
            "add outbound rules for TCP to 443 and 80, unless forge and mirrors are elsewhere",
        ));
    }
    found
}

fn lets_out(rule: &Permission, port: u16) -> bool {
    let port = i32::from(port);
    let from = rule.from_port.unwrap_or(0);
    let to = rule.to_port.unwrap_or(i32::from(u16::MAX));
    match rule.ip_protocol.as_str() {
        "-1" => true,
        "tcp" | "6" => (from..=to).contains(&port) || from == -1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::provisioner::ec2::answers::Items;
    use crate::master::provisioner::ec2::doctor::answers::PortRange;

    fn rule(number: u32, action: &str, egress: bool, ports: Option<(u16, u16)>) -> AclEntry {
        AclEntry {
            rule_number: number,
            protocol: if ports.is_some() { "6" } else { "-1" }.to_owned(),
            rule_action: action.to_owned(),
            egress,
            cidr_block: ANYWHERE.to_owned(),
            port_range: ports.map(|(from, to)| PortRange { from, to }),
        }
    }

    #[test]
    fn of_an_acl_s_rules_the_first_that_fits_decides() {
        let all = [rule(100, "allow", false, None), rule(32767, "deny", false, None)];
        assert!(passes(&all, false, 40_000));
        assert!(!passes(&all, true, 443), "rules of one direction say nothing of the other");
        let denied = [rule(50, "deny", false, Some((40_000, 50_000))), all[0].clone()];
        assert!(!passes(&denied, false, 45_000));
        assert!(passes(&denied, false, 50_001));
        let part = AclEntry { cidr_block: "10.0.0.0/8".to_owned(), ..all[1].clone() };
        assert!(passes(&[AclEntry { rule_number: 1, ..part }, all[0].clone()], false, 1));
        assert!(!passes(&[], true, 443));
    }

    #[test]
    fn a_hole_in_the_middle_of_the_return_ports_is_found() {
        for (ports, is_well) in
            [((1024, 65_535), true), ((32_768, 60_999), true), ((49_152, 65_535), false)]
        {
            let entries = vec![rule(1, "allow", true, None), rule(1, "allow", false, Some(ports))];
            let acl = NetworkAcl {
                network_acl_id: "acl-1".to_owned(),
                entry_set: Items { item: entries },
                association_set: Items::default(),
            };
            let of = Alike { subnets: Vec::new(), is_public: true, table: None, acl: Some(&acl) };
            let found = about_acl("subnet-a", &of, 8443);
            assert_eq!(found.is_none(), is_well, "{ports:?} {found:?}");
        }
    }

    #[test]
    fn an_outbound_rule_is_for_its_ports() {
        let rule = |protocol: &str, ports: Option<(i32, i32)>| Permission {
            ip_protocol: protocol.to_owned(),
            from_port: ports.map(|(from, _)| from),
            to_port: ports.map(|(_, to)| to),
        };
        assert!(lets_out(&rule("-1", None), 8443));
        assert!(lets_out(&rule("tcp", Some((8000, 9000))), 8443));
        assert!(!lets_out(&rule("tcp", Some((443, 443))), 8443));
        assert!(!lets_out(&rule("udp", None), 53));
    }

    /// drone-runner-aws opened a port of its workers to the world.
    #[test]
    fn drone_a_group_that_lets_anything_in_is_found() {
        let inbound = |item: Vec<Permission>| {
            let group = Group {
                group_id: "sg-1".to_owned(),
                vpc_id: String::new(),
                ip_permissions: Items { item },
                ip_permissions_egress: Items::default(),
            };
            let places = Places { subnets: Vec::new(), are_default: false };
            about_groups(&[group], &places, 8443).remove(0)
        };
        assert_eq!(inbound(Vec::new()), Finding::good("sg-1 lets nothing in".to_owned()));
        let ssh = Permission { from_port: Some(22), to_port: Some(22), ..Permission::default() };
        let found = inbound(vec![ssh]);
        let fix = "workers need none: they call the master";
        assert_eq!(found, Finding::doubtful("sg-1 has inbound rules".to_owned(), fix));
    }
}
