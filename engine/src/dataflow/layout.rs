//! From a flow plan to timely operators: sources, chains of operators between exchanges, and the links between them.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use crate::error::{Error, Result};
use crate::operator::build::{Exchange, Role, meeting_columns};
use crate::plan::flow::{FlowOp, FlowPlan, NodeIndex, ScanKind};
use crate::state::key_group::{hash_keys, key_group, worker_of};
use crate::time::WatermarkId;

use super::exchange::Routing;
use super::operators::OperatorFactory;

/// An operator in a chain.
#[derive(Debug, Clone)]
pub(crate) struct MemberPlan {
    pub(crate) node: NodeIndex,
    pub(crate) role: Role,
    /// Who takes its output within the chain: member and input.
    pub(crate) parent: Option<(usize, usize)>,
    /// Every key is the same one (an aggregate without groups): only its owner may do anything.
    pub(crate) only_on: Option<usize>,
}

/// A timely operator.
#[derive(Debug, Clone)]
pub(crate) enum Unit {
    /// A stream's reader, or constant rows.
    Stream(NodeIndex),
    /// A view's edge.
    View(NodeIndex),
    /// Operators.
    Chain(Vec<MemberPlan>),
}

/// Where a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkEnd {
    /// A chain's member and its input.
    Member { unit: usize, member: usize, input: usize },
    /// The view or sink.
    Terminal,
    /// What takes rows that come too late.
    Late,
}

/// A link from one timely operator to another.
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: LinkEnd,
    pub(crate) routing: Routing,
    /// Whether it goes through an exchange: rows for other workers, or watermarks of all.
    pub(crate) exchanged: bool,
    /// The watermarks that come over it.
    pub(crate) ids: BTreeSet<WatermarkId>,
}

/// All of a job, the same on every worker. Units stand in the order in which they are built: inputs first.
pub(crate) struct Layout {
    /// What is laid out.
    pub(crate) plan: Arc<FlowPlan>,
    pub(crate) units: Vec<Unit>,
    pub(crate) links: Vec<Link>,
}

impl Layout {
    /// Links out of a unit.
    pub(crate) fn outgoing(&self, unit: usize) -> impl Iterator<Item = usize> + '_ {
        self.links.iter().enumerate().filter(move |(_, link)| link.from == unit).map(|(index, _)| index)
    }

    /// Links into a chain.
    pub(crate) fn incoming(&self, unit: usize) -> impl Iterator<Item = usize> + '_ {
        let ends_here = move |link: &Link| matches!(link.to, LinkEnd::Member { unit: of, .. } if of == unit);
        self.links.iter().enumerate().filter(move |(_, link)| ends_here(link)).map(|(index, _)| index)
    }

    /// The link into the view or sink.
    pub(crate) fn to_terminal(&self) -> impl Iterator<Item = usize> + '_ {
        self.links.iter().enumerate().filter(|(_, link)| link.to == LinkEnd::Terminal).map(|(index, _)| index)
    }

    /// The links of late rows.
    pub(crate) fn to_late(&self) -> impl Iterator<Item = usize> + '_ {
        self.links.iter().enumerate().filter(|(_, link)| link.to == LinkEnd::Late).map(|(index, _)| index)
    }

    /// Lays out a plan for `workers` workers. With one there are no exchanges and no local halves. `sink_keys`: columns of
    /// the result whose equal values must reach one worker's sink.
    pub(crate) fn new(
        plan: &FlowPlan,
        workers: usize,
        factory: &dyn OperatorFactory,
        sink_keys: Option<&[usize]>,
    ) -> Result<Self> {
        let mut drawing = Drawing::new(plan, workers, factory);
        for node in 0..plan.nodes.len() {
            drawing.add(node)?;
        }
        drawing.finish(sink_keys)
    }
}

struct Drawing<'a> {
    plan: &'a FlowPlan,
    workers: usize,
    factory: &'a dyn OperatorFactory,
    /// A unit that was fused into another is empty.
    units: Vec<Option<Unit>>,
    links: Vec<Link>,
    /// Where each node's rows come out: unit, and member in a chain.
    places: Vec<(usize, usize)>,
    users: Vec<usize>,
    ids: Vec<BTreeSet<WatermarkId>>,
}

impl<'a> Drawing<'a> {
    fn new(plan: &'a FlowPlan, workers: usize, factory: &'a dyn OperatorFactory) -> Self {
        let mut users = vec![0; plan.nodes.len()];
        plan.nodes.iter().flat_map(|node| &node.inputs).for_each(|input| users[*input] += 1);
        let (units, links, places, ids) = Default::default();
        Self { plan, workers, factory, units, links, places, users, ids }
    }

    fn add(&mut self, node: NodeIndex) -> Result<()> {
        let spec = &self.plan.nodes[node];
        if spec.inputs.iter().any(|input| *input >= node) {
            return Err(Error::internal(format!("node {} of the plan stands before its input", spec.id)));
        }
        let mut ids: BTreeSet<WatermarkId> = spec.inputs.iter().flat_map(|input| self.ids[*input].clone()).collect();
        let source = match &spec.op {
            FlowOp::Scan { kind: ScanKind::View, .. } => Some(Unit::View(node)),
            FlowOp::Scan { .. } | FlowOp::Values { .. } => Some(Unit::Stream(node)),
            _ => None,
        };
        if let Some(unit) = source {
            if let FlowOp::Scan { watermark: Some(watermark), .. } = &spec.op {
                ids.insert(watermark.id);
            }
            ids.extend(spec.properties.time_columns.iter().map(|column| column.watermark));
            self.ids.push(ids);
            self.places.push((self.units.len(), 0));
            self.units.push(Some(unit));
            return Ok(());
        }
        self.ids.push(ids);
        let mut keys = Vec::new();
        for input in 0..spec.inputs.len() {
            let exchange =
                if self.workers > 1 { self.factory.exchange(self.plan, node, input)? } else { Exchange::Stay };
            keys.push(exchange);
        }
        let is_exchanged = matches!(keys.first(), Some(Exchange::ByKeys(_)));
        if is_exchanged && self.factory.has_local_half(self.plan, node) {
            let input = spec.inputs[0];
            let local = self.chain((node, Role::Local, None), &[(input, Exchange::Stay)]);
            let only_on = self.owner(&keys)?;
            let unit = self.units.len();
            self.units.push(Some(Unit::Chain(vec![MemberPlan { node, role: Role::Final, parent: None, only_on }])));
            let to = LinkEnd::Member { unit, member: 0, input: 0 };
            let keys = keys.pop().unwrap_or(Exchange::Stay);
            self.link(local, to, keys, self.ids[node].clone());
            self.places.push((unit, 0));
            return Ok(());
        }
        let only_on = self.owner(&keys)?;
        let inputs: Vec<_> = spec.inputs.iter().copied().zip(keys).collect();
        let place = self.chain((node, Role::Whole, only_on), &inputs);
        self.places.push(place);
        Ok(())
    }

    /// The one worker that owns the only key, if rows are brought together by no columns. Where some rows go to every
    /// worker there is work for all.
    fn owner(&self, exchanges: &[Exchange]) -> Result<Option<usize>> {
        let is_keyless = matches!(exchanges.first(), Some(Exchange::ByKeys(keys)) if keys.is_empty());
        if !is_keyless || exchanges.iter().any(|exchange| matches!(exchange, Exchange::ToAll)) {
            return Ok(None);
        }
        let mut hashes = Vec::new();
        hash_keys(&[], 1, &mut hashes)?;
        Ok(hashes.first().map(|hash| worker_of(key_group(*hash), self.workers)))
    }

    /// Adds a node on top of its inputs: in the same chain where rows may stay on their worker and nobody else reads
    /// them. Answers where its rows come out.
    fn chain(
        &mut self,
        (node, role, only_on): (NodeIndex, Role, Option<usize>),
        inputs: &[(NodeIndex, Exchange)],
    ) -> (usize, usize) {
        let unit = self.units.len();
        let mut members: Vec<MemberPlan> = Vec::new();
        let mut fused = Vec::new();
        for (index, (input, keys)) in inputs.iter().enumerate() {
            let (of, member) = self.places[*input];
            if !matches!(keys, Exchange::Stay) || self.users[*input] > 1 {
                continue;
            }
            if let Some(Unit::Chain(theirs)) = &mut self.units[of] {
                let theirs = std::mem::take(theirs);
                self.units[of] = None;
                let base = members.len();
                members.extend(theirs.into_iter().map(|member| MemberPlan {
                    parent: member.parent.map(|(parent, input)| (parent + base, input)),
                    ..member
                }));
                fused.push((base + member, index));
                self.moved(of, unit, base);
            }
        }
        let own = members.len();
        for (member, input) in &fused {
            members[*member].parent = Some((own, *input));
        }
        members.push(MemberPlan { node, role, parent: None, only_on });
        self.units.push(Some(Unit::Chain(members)));
        for (index, (input, keys)) in inputs.iter().enumerate() {
            if !fused.iter().any(|(_, input)| *input == index) {
                let to = LinkEnd::Member { unit, member: own, input: index };
                self.link(self.places[*input], to, keys.clone(), self.ids[*input].clone());
            }
        }
        (unit, own)
    }

    /// A chain became part of another one.
    fn moved(&mut self, from: usize, to: usize, base: usize) {
        for (unit, member) in &mut self.places {
            if *unit == from {
                (*unit, *member) = (to, *member + base);
            }
        }
        for link in &mut self.links {
            if let LinkEnd::Member { unit, member, .. } = &mut link.to
                && *unit == from
            {
                (*unit, *member) = (to, *member + base);
            }
        }
    }

    fn link(&mut self, (from, _): (usize, usize), to: LinkEnd, exchange: Exchange, ids: BTreeSet<WatermarkId>) {
        // A stream's watermark needs the word of all workers: it goes to all.
        let broadcast = matches!(self.units[from], Some(Unit::Stream(_)));
        let exchanged = self.workers > 1 && (!matches!(exchange, Exchange::Stay) || broadcast);
        let routing = match exchange {
            Exchange::Stay => Routing::Stay,
            Exchange::ByKeys(keys) => Routing::ByKey(keys.into()),
            Exchange::ToAll => Routing::ToAll,
        };
        self.links.push(Link { from, to, routing, exchanged, ids });
    }

    /// By what rows are brought together before the sink, if they do not meet anyway.
    fn sink_exchange(&self, root: NodeIndex, sink_keys: Option<&[usize]>) -> Exchange {
        let Some(columns) = sink_keys.filter(|_| self.workers > 1) else { return Exchange::Stay };
        let meet = meeting_columns(self.plan, root);
        if meet.is_some_and(|meet| meet.iter().all(|column| columns.contains(column))) {
            return Exchange::Stay;
        }
        let schema = self.plan.nodes[root].schema.inner();
        let key =
            |column: &usize| Arc::new(Column::new(schema.field(*column).name(), *column)) as Arc<dyn PhysicalExpr>;
        Exchange::ByKeys(columns.iter().map(key).collect())
    }

    fn finish(mut self, sink_keys: Option<&[usize]>) -> Result<Layout> {
        let Some(root) = self.plan.nodes.len().checked_sub(1) else {
            return Err(Error::internal("a plan without nodes"));
        };
        let keys = self.sink_exchange(root, sink_keys);
        self.link(self.places[root], LinkEnd::Terminal, keys, self.ids[root].clone());
        // A chain is made where its last member was: all that it reads from was made before, or is fused into it.
        let mut numbers = vec![usize::MAX; self.units.len()];
        let mut units = Vec::new();
        for (old, unit) in self.units.into_iter().enumerate() {
            if let Some(unit) = unit {
                numbers[old] = units.len();
                units.push(unit);
            }
        }
        for link in &mut self.links {
            link.from = numbers[link.from];
            if let LinkEnd::Member { unit, .. } = &mut link.to {
                *unit = numbers[*unit];
            }
        }
        self.links.extend(late_links(self.plan, &units, self.workers));
        Ok(Layout { plan: Arc::new(self.plan.clone()), units, links: self.links })
    }
}

/// Links of late rows, all to one worker: they are few, and whoever takes them has each epoch in one piece.
fn late_links(plan: &FlowPlan, units: &[Unit], workers: usize) -> Vec<Link> {
    let Some(late) = &plan.late else { return Vec::new() };
    let decides = |member: &MemberPlan| late.sources.iter().any(|source| source.node == member.node);
    let chains = units.iter().enumerate().filter(|(_, unit)| match unit {
        Unit::Chain(members) => members.iter().any(decides),
        Unit::Stream(_) | Unit::View(_) => false,
    });
    let link = |from| {
        let routing = if workers > 1 { Routing::ByKey(Vec::new().into()) } else { Routing::Stay };
        Link { from, to: LinkEnd::Late, routing, exchanged: workers > 1, ids: BTreeSet::new() }
    };
    chains.map(|(from, _)| link(from)).collect()
}
