using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using VirtBackup.Proofs.Replication.Sites;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Replication.SiteLoss;

/// <summary>
/// A recovery, and those who saw it without knowing its order: the script of a probe, which looks for a guest's own word on its
/// console and notes when it found it, and the kernel, which knows when each machine's process began.
/// </summary>
internal sealed class StartWitnesses(PeerSite site, string folder)
{
    public const string Probe = "console";
    public const string HastyProbe = "hasty";
    private const string Notes = "ready.log";

    /// <summary>What the agent's settings need for it.</summary>
    public static string WriteProbes(Installation installation)
    {
        var script = installation.File("probe.sh");
        File.WriteAllText(script, $"""
            #!/bin/sh
            grep -qa GUEST-UP "$VIRTBACKUP_FOLDER/serial.log" || exit 1
            echo "$VIRTBACKUP_VM $(date +%s.%N)" >> {installation.File(Notes)}
            """);
        return $"probes:\n  - name: {Probe}\n    command: [/bin/sh, {script}]\n  - name: {HastyProbe}\n    command: [/bin/true]\n";
    }

    /// <returns>The recovery's result.</returns>
    public async Task<JsonElement> RecoverAsync(IEnumerable<string> machines, IEnumerable<string> more)
    {
        Directory.CreateDirectory(site.Installation.File(folder));
        var recovered = await site.Installation.RunAsync(
            ["recovery", "run", .. machines.SelectMany(static name => new[] { "--vm", name }), "--folder", site.Installation.File(folder), "--keep-identity", "--format", "raw", "--agent", site.Agent.Name, .. more]);
        return recovered.ExitCode == 0
            ? recovered.Json.GetProperty("result").GetProperty("recovery") : throw new RefutedException($"the machines were not recovered: {recovered.Stderr}{recovered.Stdout}");
    }

    /// <returns>The machines in the order in which their processes began.</returns>
    public async Task<string> RequireOrderAsync(JsonElement result, IReadOnlyList<(string Machine, string Needs)> edges)
    {
        var ready = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (var words in (await File.ReadAllLinesAsync(site.Installation.File(Notes))).Select(static line => line.Split(' ')))
        {
            ready.TryAdd(words[0], double.Parse(words[1], CultureInfo.InvariantCulture));
        }
        var begun = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (var machine in result.GetProperty("machines").EnumerateArray())
        {
            var name = machine.GetProperty("vm").GetString()!;
            if (machine.GetProperty("state").GetString() != "ready") throw new RefutedException($"{name} is not ready: {machine}");
            begun[name] = ProcessClock.BegunAt(int.Parse((await DetailsOfAsync(machine))["pid"], CultureInfo.InvariantCulture));
        }
        foreach (var (machine, needs) in edges)
        {
            if (!ready.TryGetValue(needs, out var at)) throw new RefutedException($"the process of {machine} began although nobody saw {needs} up, which it needs");
            if (begun[machine] < at - ProcessClock.ErrorSeconds)
            {
                throw new RefutedException(string.Create(CultureInfo.InvariantCulture, $"the process of {machine} began {at - begun[machine]:0.00} s before {needs}, which it needs, said that it was up"));
            }
        }
        return string.Join(" ", begun.OrderBy(static one => one.Value).Select(static one => one.Key));
    }

    /// <returns>Paths of the recovered disks, by name.</returns>
    public async Task<IReadOnlyDictionary<string, string>> DisksOfAsync(JsonElement machine) => (await DetailsOfAsync(machine))
        .Where(static detail => detail.Key.StartsWith("disk ", StringComparison.Ordinal)).ToDictionary(static detail => detail.Key["disk ".Length..], static detail => detail.Value, StringComparer.Ordinal);

    /// <summary>Ends the machines below a folder.</summary>
    public static void KillRestored(string folder)
    {
        if (!Directory.Exists(folder)) return;
        foreach (var pid in RestoredVm.ProcessesNaming(folder)) Process.GetProcessById(pid).Kill();
    }

    private async Task<Dictionary<string, string>> DetailsOfAsync(JsonElement machine) =>
        (await site.RunAsync("job", "show", machine.GetProperty("job_id").GetString()!)).GetProperty("result").GetProperty("restore").GetProperty("details").EnumerateArray()
            .ToDictionary(static detail => detail.GetProperty("name").GetString()!, static detail => detail.GetProperty("value").GetString()!, StringComparer.Ordinal);
}
