using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.GuestImpact;

/// <summary>A guest that writes at a pace, an agent at idle priority, a controller behind a link that can be slow or dead.</summary>
internal sealed class Stage : IAsyncDisposable
{
    private const string Machine = "paced";
    private const string Bulk = "bulk";
    private const double SlowBytesPerSecond = 1_000_000;
    private static readonly TimeSpan Settling = TimeSpan.FromSeconds(1);
    private readonly ProofOptions _options;
    private readonly Latencies _latencies;
    private readonly LabDirectory _folder = new();
    private readonly long _bulkBytes;
    private readonly TimeSpan _span;
    private LabVm? _vm;
    private PacedLoad? _load;
    private Installation? _installation;
    private Link? _link;
    private Peer? _peer;

    private Stage(ProofOptions options, Latencies latencies)
    {
        (_options, _latencies) = (options, latencies);
        _bulkBytes = (options.Short ? 48L : 256L) << 20;
        _span = TimeSpan.FromSeconds(options.Short ? 1.5 : 10);
    }

    private LabVm Vm => _vm!;

    private Installation Site => _installation!;

    public static async Task<Stage> SetAsync(ProofOptions options, Latencies latencies, CancellationToken cancellationToken)
    {
        var stage = new Stage(options, latencies);
        try
        {
            await stage.SetAsync(cancellationToken);
            return stage;
        }
        catch
        {
            await stage.DisposeAsync();
            throw;
        }
    }

    private async Task SetAsync(CancellationToken cancellationToken)
    {
        var image = _folder.File("bulk.qcow2");
        await LabDisk.CreateAsync(image, LabDiskFormat.Qcow2, _bulkBytes, cancellationToken);
        var booting = LabVm.BootAsync(new LabVmOptions
        {
            Name = Machine,
            // Shared, so that QEMU itself may fill it.
            ExtraArguments =
            [
                "-blockdev", $"driver=qcow2,node-name={Bulk},file.driver=file,file.filename={image}", "-device", $"virtio-blk-pci,id=disk-{Bulk},drive={Bulk},serial={Bulk},share-rw=on",
            ],
        }, cancellationToken);
        _installation = await Installation.CreateAsync();
        await _installation.Controller.StartAsync();
        _link = new Link(_installation.Port);
        var agent = await _installation.EnrollAsync("host");
        _vm = await booting;
        agent.Add(_vm);
        agent.Append($"controller: 127.0.0.1:{_link.Port}\npriority: idle");
        await agent.Service.StartAsync();
        await _installation.WaitForMachineAsync(Machine);
        _load = new PacedLoad(line => Vm.ExecAsync(line, cancellationToken: cancellationToken), () => Vm.QmpAsync("query-blockstats", cancellationToken: cancellationToken));
        await _load.StartAsync();
        await Task.Delay(Settling, cancellationToken);
        // Beside it only in the long form, since it takes as long as all the rest.
        if (!_options.Short && _options.Sabotage is null) _peer = await Peer.StartAsync(_bulkBytes);
    }

    public async Task TryAsync(int trial, CancellationToken cancellationToken)
    {
        Console.WriteLine($"trial {trial}:");
        if (_peer is not null) await MeasurePeerAsync(_peer, cancellationToken);
        await FillAsync(trial, 0, cancellationToken);
        await MeasureAsync(_load!, Latencies.Idle, () => Task.Delay(_span, cancellationToken));
        if (_options.Sabotage is { } planted)
        {
            Link.BytesPerSecond = SlowBytesPerSecond;
            await MeasureBrokenOffAsync(Latencies.Slow, () => Sabotages.PlantAsync(planted, Vm), cancellationToken);
            return;
        }
        await MeasureAsync(_load!, Latencies.Healthy, async () => Print(await Site.BackUpAsync(Machine, "--full")));

        await FillAsync(trial, 1, cancellationToken);
        Link.BytesPerSecond = SlowBytesPerSecond;
        await MeasureBrokenOffAsync(Latencies.Slow, static () => Task.CompletedTask, cancellationToken);

        await FillAsync(trial, 2, cancellationToken);
        // Slow at first: over a fast link the backup may be over before the link dies.
        Link.BytesPerSecond = SlowBytesPerSecond;
        await MeasureBrokenOffAsync(Latencies.Dead, () => Task.FromResult(Link.IsDead = true), cancellationToken);
    }

    /// <summary>One guest at a time: the other one is paused.</summary>
    private async Task MeasurePeerAsync(Peer peer, CancellationToken cancellationToken)
    {
        await Vm.QmpAsync("stop", cancellationToken: cancellationToken);
        await peer.ResumeAsync();
        await Task.Delay(Settling, cancellationToken);
        await MeasureAsync(peer.Load, Latencies.PeerIdle, () => Task.Delay(_span, cancellationToken));
        await MeasureAsync(peer.Load, Latencies.Peer, peer.BackUpAsync);
        await peer.SuspendAsync();
        await Vm.QmpAsync("cont", cancellationToken: cancellationToken);
        await Task.Delay(Settling, cancellationToken);
    }

    private Link Link => _link!;

    private async Task MeasureAsync(PacedLoad load, string what, Func<Task> meanwhile)
    {
        await load.BeginAsync();
        await meanwhile();
        _latencies.Add(what, await load.EndAsync());
    }

    /// <summary>Measures while a backup reads that does not come to its end.</summary>
    private async Task MeasureBrokenOffAsync(string what, Func<Task> spoil, CancellationToken cancellationToken)
    {
        var job = await Site.BeginBackUpAsync(Machine, "reading", "--full");
        await spoil();
        await MeasureAsync(_load!, what, () => Task.Delay(_span, cancellationToken));
        var state = (await Site.RunAsync("job", "show", job)).Json.GetProperty("state").GetString();
        if (state != "running") throw new RefutedException($"the backup over the link '{what}' was to be running still; it is '{state}'");
        (Link.BytesPerSecond, Link.IsDead) = (0, false);
        (await Site.RunAsync("job", "cancel", job)).EnsureSuccess();
        await Site.FollowAsync(job);
    }

    /// <summary>New content for the disk that is to be read, written past the guest.</summary>
    private async Task FillAsync(int trial, int run, CancellationToken cancellationToken)
    {
        var path = _folder.File("content");
        await using (var file = File.Create(path))
        {
            var random = _options.RandomOf(trial, run);
            var buffer = new byte[1 << 20];
            for (var at = 0L; at < _bulkBytes; at += buffer.Length)
            {
                random.NextBytes(buffer);
                await file.WriteAsync(buffer, cancellationToken);
            }
        }
        var answer = await Vm.QmpAsync("human-monitor-command", JsonSerializer.Serialize(new Dictionary<string, string> { ["command-line"] = $"qemu-io {Bulk} \"write -s {path} 0 {_bulkBytes}\"" }), cancellationToken);
        if (answer.GetString() is { Length: > 0 } text && !text.Contains("wrote ", StringComparison.Ordinal)) throw new LabException($"The disk could not be filled: {text}");
    }

    private static void Print(JsonElement point) =>
        Console.WriteLine($"  as the product tells it: {point.GetProperty("consistency_detail").GetString()} impact: {point.GetProperty("impact").GetRawText()}");

    public async ValueTask DisposeAsync()
    {
        if (_installation is not null) await _installation.DisposeAsync();
        if (_link is not null) await _link.DisposeAsync();
        if (_vm is not null) await _vm.DisposeAsync();
        if (_peer is not null) await _peer.DisposeAsync();
        _folder.Dispose();
    }
}
