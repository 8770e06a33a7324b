using VirtBackup.Catalog.Dependencies;
using VirtBackup.Core;
using VirtBackup.Database;

namespace VirtBackup.Catalog.Tests;

public sealed class DependencyGraphTests
{
    private const int Graphs = 100;
    private static int _count;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public void Cycles_are_found_exactly_where_a_machine_reaches_itself()
    {
        var cyclic = 0;
        for (var seed = 0; seed < Graphs; seed++)
        {
            var random = new Random(seed);
            var machines = Machines(random.Next(1, 12));
            var edges = RandomEdges(random, machines, acyclic: false);
            var reaches = Closure(machines, edges);
            var graph = new DependencyGraph(edges);
            var cycle = graph.FindCycle();
            Assert.Equal(machines.Any(machine => reaches.Contains((machine, machine))), cycle is not null);
            if (cycle is null)
            {
                continue;
            }
            cyclic++;
            Assert.Equal(cycle.Count, cycle.Distinct().Count());
            Assert.All(cycle.Zip(cycle.Skip(1).Append(cycle[0])), step => Assert.Contains(new Dependency(step.First, step.Second), edges));
            Assert.Throws<FaultException>(() => graph.Stages(machines));
        }
        Assert.InRange(cyclic, Graphs / 10, Graphs * 9 / 10);
    }

    [Fact]
    public void Among_some_machines_one_needs_another_exactly_when_it_reaches_it_past_the_others()
    {
        for (var seed = 0; seed < Graphs; seed++)
        {
            var random = new Random(seed);
            var machines = Machines(random.Next(1, 12));
            var edges = RandomEdges(random, machines, acyclic: true);
            var chosen = machines.Where(_ => random.Next(2) == 0).ToHashSet();
            var among = new DependencyGraph(edges).Among(chosen);
            var before = Closure(machines, edges);
            var after = Closure([.. chosen], [.. chosen.SelectMany(machine => among.NeedsOf(machine).Select(needed => new Dependency(machine, needed)))]);
            Assert.Equal(before.Where(pair => chosen.Contains(pair.Item1) && chosen.Contains(pair.Item2)).Order(), after.Order());
        }
    }

    [Fact]
    public void Stages_hold_every_machine_once_behind_all_that_it_needs_and_as_early_as_that_allows()
    {
        for (var seed = 0; seed < Graphs; seed++)
        {
            var random = new Random(seed);
            var machines = Machines(random.Next(1, 20));
            var graph = new DependencyGraph(RandomEdges(random, machines, acyclic: true));
            var stages = graph.Stages(machines);
            Assert.Equal(machines.Order(), stages.SelectMany(static stage => stage).Order());
            var stageOf = stages.Index().SelectMany(static stage => stage.Item.Select(machine => (machine, stage.Index))).ToDictionary(static pair => pair.machine, static pair => pair.Index);
            Assert.All(machines, machine => Assert.Equal(graph.NeedsOf(machine).Select(needed => stageOf[needed] + 1).DefaultIfEmpty(0).Max(), stageOf[machine]));
        }
    }

    [Fact]
    public void Without_a_limit_a_run_takes_what_its_longest_way_takes_and_the_path_adds_up()
    {
        for (var seed = 0; seed < Graphs; seed++)
        {
            var random = new Random(seed);
            var machines = Machines(random.Next(1, 30));
            var graph = new DependencyGraph(RandomEdges(random, machines, acyclic: true));
            var durations = machines.ToDictionary(static machine => machine, _ => new RecoveryDurations(random.Next(0, 50), random.Next(0, 50)));
            var forecast = RecoveryForecast.Make(machines, graph, durations, 0);
            // By recursion on its definition.
            double ReadyAt(Id16 machine) => Math.Max(durations[machine].RestoreSeconds, graph.NeedsOf(machine).Select(ReadyAt).DefaultIfEmpty().Max()) + durations[machine].ReadySeconds;
            if (machines.Length <= 20)
            {
                Assert.All(machines, machine => Assert.Equal(ReadyAt(machine), forecast.Ready[machine]));
                Assert.Equal(machines.Max(ReadyAt), forecast.Seconds);
            }
            Assert.Equal(0, forecast.CriticalPath[0].BeginSeconds);
            Assert.Equal(forecast.Seconds, forecast.CriticalPath[^1].EndSeconds);
            Assert.All(forecast.CriticalPath.Zip(forecast.CriticalPath.Skip(1)), legs => Assert.Equal(legs.First.EndSeconds, legs.Second.BeginSeconds));
            // With one slot nothing overlaps.
            Assert.Equal(durations.Values.Sum(static took => took.RestoreSeconds + took.ReadySeconds), RecoveryForecast.Make(machines, graph, durations, 1).Seconds);
        }
    }

    [Fact]
    public void Readiness_is_foretold_by_own_starts_then_by_others_then_by_a_guess()
    {
        Assert.Equal((30.0, 60.0), ReadyTimes.Foretell([], []));
        Assert.Equal((8.0, 16.0), ReadyTimes.Foretell([], [4, 8, 9]));
        Assert.Equal((5.0, 20.0), ReadyTimes.Foretell([5, 20, 4], [100]));
        Assert.Equal((11.0, 19.0), ReadyTimes.Foretell([.. Enumerable.Range(1, 20).Select(static i => (double)i), 1000], []));
    }

    [Fact]
    public async Task Dependencies_are_stored_and_one_that_closes_a_circle_is_not()
    {
        await using var database = SqliteDatabase.OpenInMemory($"dependencies {Interlocked.Increment(ref _count)}", CatalogSchema.Migrations);
        var records = new CatalogDatabase(database).Dependencies;
        var (app, web, db) = (new Id16(1), new Id16(2), new Id16(3));
        Assert.Null(await records.AddAsync(new Dependency(web, app), Token));
        Assert.Null(await records.AddAsync(new Dependency(app, db), Token));
        Assert.Null(await records.AddAsync(new Dependency(app, db), Token));
        Assert.Equal([db, web, app, db], await records.AddAsync(new Dependency(db, web), Token));
        Assert.Equal([app, app], await records.AddAsync(new Dependency(app, app), Token));
        Assert.Equal([new Dependency(app, db), new Dependency(web, app)], await records.ListAsync(Token));
        Assert.True(await records.RemoveAsync(new Dependency(app, db), Token));
        Assert.False(await records.RemoveAsync(new Dependency(app, db), Token));
        Assert.Null(await records.AddAsync(new Dependency(db, web), Token));

        var probe = new ProbeRow(db, ProbeKind.Tcp, "10.0.0.7:5432", 60_000, 500);
        await records.SetProbeAsync(probe with { Target = "10.0.0.8:1" }, Token);
        await records.SetProbeAsync(probe, Token);
        Assert.Equal(probe, Assert.Single(await records.ListProbesAsync(Token)).Value);
        Assert.True(await records.RemoveProbeAsync(db, Token));
        Assert.False(await records.RemoveProbeAsync(db, Token));
    }

    [Fact]
    public async Task Runs_are_stored_machine_by_machine_scored_once_and_judged_by_probe_and_host()
    {
        await using var database = SqliteDatabase.OpenInMemory($"recoveries {Interlocked.Increment(ref _count)}", CatalogSchema.Migrations);
        var records = new CatalogDatabase(database).Recoveries;
        var row = new RecoveryMachineRow
        {
            RunId = new Id16(9), VmId = new Id16(1), Agent = "host-1", ProbeKey = "tcp db:5432", P50 = new RecoveryDurations(10, 4), P90 = new RecoveryDurations(20, 8), JudgedBy = 3,
        };
        await records.SaveAsync(row, Token);
        row = row with { Step = RecoveryStep.Ready, BegunMs = 1000, RestoredMs = 9000, StartedMs = 9500, EndedMs = 13_500, ReadySeconds = 4.25, Message = "" };
        await records.SaveAsync(row, Token);
        Assert.Equal(row, Assert.Single(await records.ListAsync(new Id16(9), Token)).Value);
        Assert.Equal([4.25], await records.ListReadySecondsAsync(new Id16(1), "host-1", "tcp db:5432", 10, Token));
        Assert.Empty(await records.ListReadySecondsAsync(new Id16(1), "host-1", "guest-agent", 10, Token));
        Assert.Equal([4.25], await records.ListReadySecondsAsync("host-1", "tcp", 10, Token));
        Assert.Empty(await records.ListReadySecondsAsync("host-2", "tcp", 10, Token));

        await records.AddScoreAsync(new RecoveryScore(new Id16(9), 14_000, 1, 14, 28, null), Token);
        await records.AddScoreAsync(new RecoveryScore(new Id16(9), 15_000, 1, 99, 99, null), Token);
        await records.ScoreAsync(new Id16(9), 12.5, Token);
        await records.ScoreAsync(new Id16(9), 99, Token);
        Assert.Equal(new RecoveryScore(new Id16(9), 14_000, 1, 14, 28, 12.5), Assert.Single(await records.ListScoresAsync(10, Token)));
        Assert.Single(await records.ListAsync(new Id16(9), Token));
    }

    private static Id16[] Machines(int count) => [.. Enumerable.Range(1, count).Select(static i => new Id16((UInt128)i))];

    private static List<Dependency> RandomEdges(Random random, Id16[] machines, bool acyclic)
    {
        var order = machines.ToArray();
        random.Shuffle(order);
        var chance = random.NextDouble() * 0.4;
        return [.. from i in Enumerable.Range(0, order.Length) from j in Enumerable.Range(0, order.Length) where (acyclic ? i < j : i != j) && random.NextDouble() < chance / (acyclic ? 1 : 2) select new Dependency(order[i], order[j])];
    }

    /// <summary>Who reaches whom by at least one step.</summary>
    private static HashSet<(Id16, Id16)> Closure(Id16[] machines, IReadOnlyCollection<Dependency> edges)
    {
        var reaches = edges.Select(static edge => (edge.VmId, edge.Needs)).ToHashSet();
        foreach (var by in machines)
        {
            foreach (var from in machines)
            {
                reaches.UnionWith(machines.Where(to => reaches.Contains((from, by)) && reaches.Contains((by, to))).Select(to => (from, to)).ToList());
            }
        }
        return reaches;
    }
}
