using System.Globalization;
using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.DependencyOrder.Real;

/// <summary>
/// Real machines are backed up, destroyed, and recovered in the order of a random graph. The witnesses know nothing of the order: a
/// probe's script, which looks for the guest's own word on its console and notes when it found it, and the kernel, which knows when
/// each machine's process began.
/// </summary>
internal sealed class RealRecovery(ProofOptions options)
{
    private const int MachinesLong = 6;
    private const int MachinesShort = 2;

    /// <summary>Of the run, beyond what each machine took, one after the other where they need each other.</summary>
    private const double MakespanMax = 1.05;

    /// <summary>What a report and an order take on their way, for each leg.</summary>
    private const double LegSeconds = 0.4;

    private readonly Random _random = options.RandomOf(options.StartTrial, 2);

    /// <summary>How long after the witnesses' last word a machine may start: what an order takes on its way, and its QEMU. The short form runs beside other things.</summary>
    private double StartLagMax => options.Short ? 5 : 1;

    public async Task<string> RunAsync(CancellationToken cancellationToken)
    {
        var names = Enumerable.Range(1, options.Short ? MachinesShort : MachinesLong).Select(static i => $"m{i}").ToArray();
        var edges = ChooseEdges(names);
        var starting = names.Select(name => StartStoppedAsync(name, cancellationToken)).ToArray();
        Installation? installation = null;
        try
        {
            var machines = await Task.WhenAll(starting);
            (installation, _) = await Installation.StartAsync((installation, agent) =>
            {
                foreach (var machine in machines)
                {
                    agent.Add(machine, guestAgent: false);
                }
                agent.Append(WriteProbes(installation));
            });
            foreach (var name in names)
            {
                await installation.WaitForMachineAsync(name);
            }
            await Task.WhenAll(names.Select(name => installation.BackUpAsync(name)));
            await Task.WhenAll(machines.Select(machine => machine.DisposeAsync().AsTask()));
            await TellAsync(installation, names, edges);
            Directory.CreateDirectory(installation.File("r"));
            var result = (await installation.RunAsync(["recovery", "run", .. names.SelectMany(static name => new[] { "--vm", name }), "--folder", installation.File("r"), "--keep-identity"])).Json
                .GetProperty("result").GetProperty("recovery");
            return await JudgeAsync(installation, result, names, edges);
        }
        finally
        {
            foreach (var machine in starting)
            {
                await ((Task)machine).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                if (machine.IsCompletedSuccessfully)
                {
                    await (await machine).DisposeAsync();
                }
            }
            if (installation is not null)
            {
                await RemoveAsync(installation, names);
                await installation.DisposeAsync();
            }
        }
    }

    // A chain of all, turned at random into a tree, and a few edges more: every machine but the first needs one.
    private List<(string Machine, string Needs)> ChooseEdges(string[] names)
    {
        var order = names.ToArray();
        _random.Shuffle(order);
        var edges = new List<(string, string)>();
        for (var i = 1; i < order.Length; i++)
        {
            edges.Add((order[i], order[_random.Next(Math.Max(0, i - 2), i)]));
        }
        edges.AddRange(from i in Enumerable.Range(2, Math.Max(0, order.Length - 2)) where _random.Next(3) == 0 && !edges.Contains((order[i], order[0])) select (order[i], order[0]));
        return edges;
    }

    /// <summary>A machine whose guest never ran: its disks are those of the lab's guest, which boots from them when it is restored.</summary>
    private static async Task<LabVm> StartStoppedAsync(string name, CancellationToken cancellationToken)
    {
        var guest = await LabGuest.GetAsync(cancellationToken);
        return await LabVm.StartAsync(new LabVmOptions { Name = name, Disks = LabVmOptions.GuestDisks(guest), ExtraArguments = ["-S"] }, cancellationToken);
    }

    /// <summary>The script that is asked whether a machine is ready, and that of a sabotage, which says so at once.</summary>
    private static string WriteProbes(Installation installation)
    {
        var script = installation.File("probe.sh");
        File.WriteAllText(script, $"""
            #!/bin/sh
            grep -qa GUEST-UP "$VIRTBACKUP_FOLDER/serial.log" || exit 1
            echo "$VIRTBACKUP_VM $(date +%s.%N)" >> {installation.File("ready.log")}
            """);
        return $"probes:\n  - name: console\n    command: [/bin/sh, {script}]\n  - name: hasty\n    command: [/bin/true]\n";
    }

    private async Task TellAsync(Installation installation, string[] names, List<(string Machine, string Needs)> edges)
    {
        foreach (var name in names)
        {
            var probe = options.Sabotage == Sabotages.ReadyTooSoon && name == edges[0].Needs ? "hasty" : "console";
            (await installation.RunAsync("dependency", "probe", name, "--command", probe, "--interval", "0.1", "--timeout", "280")).EnsureSuccess();
        }
        foreach (var (machine, needs) in edges)
        {
            (await installation.RunAsync("dependency", "add", machine, "--needs", needs)).EnsureSuccess();
        }
        var refused = await installation.RunAsync("dependency", "add", edges[0].Needs, "--needs", edges[0].Machine);
        Require(refused.ExitCode == 4 && refused.Stderr.Contains($"{edges[0].Needs} needs {edges[0].Machine} needs {edges[0].Needs}", StringComparison.Ordinal),
            $"a dependency that closes a circle is not refused by names: exit code {refused.ExitCode}, {refused.Stderr}");
        if (options.Sabotage == Sabotages.LoseDependency)
        {
            (await installation.RunAsync("dependency", "remove", edges[0].Machine, "--needs", edges[0].Needs)).EnsureSuccess();
        }
    }

    private async Task<string> JudgeAsync(Installation installation, JsonElement result, string[] names, List<(string Machine, string Needs)> edges)
    {
        var ready = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (var words in (await File.ReadAllLinesAsync(installation.File("ready.log"))).Select(static line => line.Split(' ')))
        {
            ready.TryAdd(words[0], double.Parse(words[1], CultureInfo.InvariantCulture));
        }
        var begun = new Dictionary<string, double>(StringComparer.Ordinal);
        var whole = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (var machine in result.GetProperty("machines").EnumerateArray())
        {
            var name = machine.GetProperty("vm").GetString()!;
            Require(machine.GetProperty("state").GetString() == "ready", $"{name} is not ready: {machine}");
            var job = (await installation.RunAsync("job", "show", machine.GetProperty("job_id").GetString()!)).Json;
            whole[name] = (job.GetProperty("create_time").GetDateTimeOffset().ToUnixTimeMilliseconds() / 1e3) + machine.GetProperty("restore_seconds").GetDouble();
            var details = job.GetProperty("result").GetProperty("restore").GetProperty("details").EnumerateArray();
            begun[name] = ProcessClock.BegunAt(int.Parse(details.Single(static detail => detail.GetProperty("name").GetString() == "pid").GetProperty("value").GetString()!, CultureInfo.InvariantCulture));
        }
        Require(begun.Count == names.Length, $"{begun.Count} of {names.Length} machines were recovered");
        foreach (var (machine, needs) in edges)
        {
            Require(ready.TryGetValue(needs, out var at) && begun[machine] >= at - ProcessClock.ErrorSeconds, string.Create(CultureInfo.InvariantCulture,
                $"the process of {machine} began {(ready.ContainsKey(needs) ? $"{at - begun[machine]:0.00} s before {needs}, which it needs, said that it was up" : $"although nobody saw {needs} up")}"));
        }
        var worstLag = 0.0;
        foreach (var name in names)
        {
            var due = edges.Where(edge => edge.Machine == name).Select(edge => ready[edge.Needs]).Append(whole[name]).Max();
            worstLag = Math.Max(worstLag, begun[name] - due);
            Require(begun[name] - due <= StartLagMax + ProcessClock.ErrorSeconds, string.Create(CultureInfo.InvariantCulture,
                $"the process of {name} began {begun[name] - due:0.00} s after its disks were whole and all that it needs had said that they were up"));
        }
        var (actual, path) = (result.GetProperty("actual_seconds").GetDouble(), result.GetProperty("path_seconds").GetDouble());
        var legs = result.GetProperty("actual_path").GetArrayLength();
        Require(actual <= (path * MakespanMax) + (legs * LegSeconds), string.Create(CultureInfo.InvariantCulture, $"it took {actual:0.0} s, and its critical path {path:0.0} s"));
        return string.Create(CultureInfo.InvariantCulture, $"real={names.Length} dependencies={edges.Count} took={actual:0.0}s path={path:0.0}s start_lag_max={worstLag:0.00}s predicted={result.GetProperty("predicted_seconds").GetDouble():0}s");
    }

    private static async Task RemoveAsync(Installation installation, string[] names)
    {
        foreach (var record in names.Select(name => installation.File($"r/{name}")).Where(Directory.Exists))
        {
            foreach (var pid in RestoredVm.ProcessesNaming(record))
            {
                await Proc.RunAsync("kill", ["-KILL", $"{pid}"]);
            }
        }
    }

    private static void Require(bool holds, string otherwise)
    {
        if (!holds)
        {
            throw new RefutedException($"Real machines: {otherwise}");
        }
    }
}
