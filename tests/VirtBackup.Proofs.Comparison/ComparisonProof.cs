using System.Diagnostics;
using System.Globalization;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Comparison;

/// <summary>
/// The same libvirt guest, backed up fully and by changes, and restored, by VirtBackup and by virtnbdbackup: VirtBackup takes no
/// longer, stores less, and freezes the guest no longer. Both restored disks are compared with what the guest's disk held.
/// </summary>
internal sealed class ComparisonProof(string? image) : IProof
{
    public const string ProofName = "compare-virtnbdbackup";
    private const long DataBytesMin = 4L << 30, ChangeBytesMin = 512L << 20;
    private const int FixedRounds = 3;
    private readonly Figures _figures = new();
    private string _summary = "";

    public string Name => ProofName;

    public IReadOnlyList<(string Name, string What)> Sabotages => Comparison.Sabotages.All;

    public (int Long, int Short) TrialsMax => (3, 1);

    public TimeSpan ShortLimit => TimeSpan.FromSeconds(10);

    public string OwnOptions => image is null ? "" : $" --image {image}";

    public string Figures => _summary;

    public async Task RunAsync(ProofOptions options, IEnumerable<int> trials, Func<bool> isLate, CancellationToken cancellationToken)
    {
        options.RequireSpace(options.Short ? 2L << 30 : 36L << 30);
        var folder = Directory.CreateDirectory(Path.Combine(options.Work, $"vb-cmp-{Path.GetRandomFileName()[..6]}")).FullName;
        try
        {
            var making = DiskStates.MakeAsync(
                image, folder, options.RandomOf(0, 0), options.Short ? 56L << 20 : DataBytesMin * 108 / 100, options.Short ? 12L << 20 : ChangeBytesMin * 115 / 100, cancellationToken);
            await using var guest = await ComparedGuest.BootAsync();
            await using var own = new OwnTool(guest, folder);
            var peer = new PeerTool(guest, folder);
            var states = await making;
            Console.WriteLine($"the disk holds {states.DataBytes >> 20} MiB of data, of which and of the rest {states.ChangedBytes >> 20} MiB change");
            if (!options.Short)
            {
                if (states.DataBytes < DataBytesMin || states.ChangedBytes < ChangeBytesMin) throw new RefutedException($"that is too little: {DataBytesMin >> 20} MiB of data and {ChangeBytesMin >> 20} MiB of changes are asked for");
                foreach (var freeze in await QmpFreezes.MeasureAsync(cancellationToken)) _figures.Add(Comparison.Figures.QmpFreeze, own, freeze.TotalSeconds);
                // With the guest's own two small disks, which hold next to nothing.
                for (var round = 0; round < FixedRounds; round++)
                {
                    foreach (var tool in InTurn(round, own, peer)) await TakeTurnAsync(new Turn(options, round, folder, guest, tool, null), cancellationToken);
                }
            }
            await guest.AttachAsync(states);
            foreach (var trial in trials)
            {
                Console.WriteLine($"trial {trial}:");
                // The thaw is late beside the other one's, which must be known.
                foreach (var tool in InTurn(options.Sabotage is null ? trial : 1, own, peer)) await TakeTurnAsync(new Turn(options, trial, folder, guest, tool, states), cancellationToken);
            }
            _summary = _figures.Tell(own, peer);
            Console.WriteLine(_summary);
            _figures.Require(options.Short ? Bounds.Loose : Bounds.Claimed, own, peer);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static ITool[] InTurn(int trial, ITool first, ITool second) => trial % 2 == 0 ? [first, second] : [second, first];

    /// <param name="States">Null: the disk is not there yet, and what does not depend on its size is measured.</param>
    private sealed record Turn(ProofOptions Options, int Trial, string Folder, ComparedGuest Guest, ITool Tool, DiskStates? States)
    {
        public string Prefix => States is null ? Comparison.Figures.Fixed : "";

        public string? Sabotage => Tool is OwnTool && States is not null ? Options.Sabotage : null;
    }

    private async Task TakeTurnAsync(Turn turn, CancellationToken cancellationToken)
    {
        var target = Path.Combine(turn.Folder, "restored");
        await turn.Tool.BeginAsync();
        if (turn.Sabotage == Comparison.Sabotages.LateThaw) PlantLateThaw(turn);
        await MeasureCutAsync(turn, Comparison.Figures.Full, turn.Tool.BackUpFullyAsync, cancellationToken);
        if (turn.States is not null) await turn.Guest.ChangeAsync();
        await MeasureCutAsync(turn, Comparison.Figures.Incremental, turn.Tool.BackUpChangesAsync, cancellationToken);
        if (turn.Sabotage == Comparison.Sabotages.Uncompressed) await Comparison.Sabotages.StoreAsync(turn.States!.After, ((OwnTool)turn.Tool).Site.Repository);
        if (turn.States is not null) _figures.Add(Comparison.Figures.Stored, turn.Tool, turn.Tool.MeasureStored());
        IReadOnlyDictionary<string, string> disks = new Dictionary<string, string>();
        Directory.CreateDirectory(target);
        await MeasureAsync(turn, Comparison.Figures.Restore, async () => disks = await turn.Tool.RestoreAsync(target), cancellationToken);
        if (turn.States is { } states)
        {
            if (turn.Sabotage == Comparison.Sabotages.AlteredDisk) await Comparison.Sabotages.AlterAsync(disks[ComparedGuest.Disk], turn.Options.RandomOf(turn.Trial, 1));
            await WaitForReleaseAsync(disks[ComparedGuest.Disk], cancellationToken);
            if (!await LabDisk.ContentEqualsAsync(states.After, LabDiskFormat.Raw, disks[ComparedGuest.Disk], LabDiskFormat.Qcow2, cancellationToken: cancellationToken))
            {
                throw new RefutedException($"the disk that {turn.Tool.Name} restored is not what the guest's disk held");
            }
            await turn.Guest.RevertAsync();
        }
        Directory.Delete(target, recursive: true);
        await turn.Tool.EndAsync();
    }

    /// <summary>Measures a backup, and for how long it froze the guest.</summary>
    private async Task MeasureCutAsync(Turn turn, string what, Func<Task> work, CancellationToken cancellationToken)
    {
        turn.Guest.Transcript.TakeFreezes();
        await MeasureAsync(turn, what, work, cancellationToken);
        if (turn.Guest.Transcript.TakeFreezes() is not [var freeze]) throw new RefutedException($"{turn.Tool.Name} did not freeze and thaw the guest once");
        _figures.Add(Comparison.Figures.Freeze, turn.Tool, freeze.TotalSeconds);
    }

    private async Task MeasureAsync(Turn turn, string what, Func<Task> work, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        // What was written before must not be written back during the measurement.
        await Proc.CheckAsync("sync", [], Patience.Image, cancellationToken);
        var clock = Stopwatch.StartNew();
        await work();
        _figures.Add(turn.Prefix + what, turn.Tool, clock.Elapsed.TotalSeconds);
    }

    // virtnbdrestore ends before the process does through which it writes.
    private static async Task WaitForReleaseAsync(string disk, CancellationToken cancellationToken)
    {
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(Patience.Image);
        while ((await Proc.RunAsync("qemu-img", ["info", disk], cancellationToken: limit.Token)).ExitCode != 0) await Task.Delay(100, limit.Token);
    }

    private void PlantLateThaw(Turn turn)
    {
        var peers = _figures.MedianOf(Comparison.Figures.Freeze, "virtnbdbackup");
        var late = TimeSpan.FromSeconds((2 * ((peers * Bounds.Loose.Freeze) + (Bounds.Loose.Slack / 3))) + 0.5);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  the agent will be stopped for {late.TotalSeconds:0.0} s"));
        turn.Guest.Transcript.WhenFrozen = () =>
        {
            turn.Guest.Transcript.WhenFrozen = null;
            _ = HoldAsync(((OwnTool)turn.Tool).Agent, late);
        };
    }

    private static async Task HoldAsync(Testing.Installations.InstalledAgent agent, TimeSpan time)
    {
        await agent.Service.FreezeAsync();
        await Task.Delay(time);
        await agent.Service.ThawAsync();
    }
}
