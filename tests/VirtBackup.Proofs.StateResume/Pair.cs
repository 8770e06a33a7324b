using System.Net;
using System.Net.Sockets;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.StateResume;

/// <summary>Two guests with one TCP connection between them: one numbers messages, the other counts and answers them.</summary>
internal sealed class Pair : IAsyncDisposable
{
    private const string Group = "pair";

    private const string Asker = """
        n=0
        while :; do
          n=$((n+1)); echo $n
          read -r r || { echo "closed at $n" > /run/broken; exit 1; }
          [ "$r" = "$n" ] || { echo "the answer to $n was $r" > /run/broken; exit 1; }
          echo $n > /run/count
        done
        """;

    private const string Answerer = """
        n=0
        while read -r i; do
          [ "$i" = $((n+1)) ] || { echo "$i came behind $n" > /run/broken; exit 1; }
          n=$i; echo $n > /run/count; echo $n
        done
        echo "closed behind $n" > /run/broken
        """;

    /// <summary>Behind which no message comes any more; a lost segment is sent again much sooner.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private readonly ProofOptions _options;
    private readonly List<Talker> _talkers = [];
    private string[] _points = [];
    private Installation? _installation;

    private Pair(ProofOptions options) => _options = options;

    private Installation Site => _installation!;

    public static async Task<Pair> BootAsync(ProofOptions options, CancellationToken cancellationToken)
    {
        var pair = new Pair(options);
        try
        {
            await pair.BootAsync(cancellationToken);
            return pair;
        }
        catch
        {
            await pair.DisposeAsync();
            throw;
        }
    }

    private async Task BootAsync(CancellationToken cancellationToken)
    {
        int[] ports = [FindPort(), FindPort()];
        var booting = new[] { "asker", "answerer" }.Select((name, number) => LabVm.BootAsync(new LabVmOptions
        {
            Name = name, MemoryMiB = 128,
            // A wire between the two processes, which keeps nothing that a restore would miss.
            ExtraArguments =
            [
                "-netdev", $"socket,id=wire,udp=127.0.0.1:{ports[1 - number]},localaddr=127.0.0.1:{ports[number]}",
                "-device", $"virtio-net-pci,netdev=wire,id=wire0,mac={MacOf(number)}",
            ],
        }, cancellationToken)).ToArray();
        // Cuts late on a busy host are no less common to both, as long as both stand still.
        const int skewBoundMs = 10_000;
        try
        {
            _installation = await Installation.CreateAsync();
            await Site.Controller.StartAsync();
        }
        finally
        {
            // Those that came up are disposed of with the pair, whatever became of the others.
            foreach (var task in booting)
            {
                await ((Task)task).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                if (task.IsCompletedSuccessfully)
                {
                    _talkers.Add(new Talker(await task));
                }
            }
        }
        await Task.WhenAll(booting);
        foreach (var talker in _talkers)
        {
            var agent = await Site.EnrollAsync($"host-{talker.Name}");
            agent.Add(talker.Vm);
            await agent.Service.StartAsync();
        }
        foreach (var (number, talker) in _talkers.Index())
        {
            await talker.ShellAsync($"for n in /sys/class/net/*; do [ $(cat $n/address) = {MacOf(number)} ] && ip addr add 10.9.0.{number + 1}/24 dev ${{n##*/}} && ip link set ${{n##*/}} up; done; true", cancellationToken);
        }
        await _talkers[1].ShellAsync(Begin(Answerer, "nc -l -p 9000 -e /run/talk"), cancellationToken);
        await _talkers[0].ShellAsync(Begin(Asker, "sleep 0.5; nc 10.9.0.2 9000 -e /run/talk"), cancellationToken);
        foreach (var talker in _talkers)
        {
            await Site.WaitForMachineAsync(talker.Name);
        }
        (await Site.RunAsync(["group", "create", Group, .. _talkers.Select(talker => talker.Name), "--skew-bound", $"{skewBoundMs}"])).EnsureSuccess();
        await RequireGoingOnAsync([default, default], 50, cancellationToken);
    }

    private static string Begin(string script, string command) =>
        $"cat > /run/talk <<'END'\n#!/bin/sh\n{script}\nEND\nchmod +x /run/talk; ({command}) </dev/null >/dev/null 2>&1 &";

    private static string MacOf(int number) => $"52:54:00:09:00:0{number + 1}";

    private static int FindPort()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        return ((IPEndPoint)socket.LocalEndPoint!).Port;
    }

    public async Task<IReadOnlyList<Told>> LookAsync(CancellationToken cancellationToken) =>
        [await _talkers[0].TellAsync(cancellationToken), await _talkers[1].TellAsync(cancellationToken)];

    /// <returns>The longer of the two pauses, milliseconds.</returns>
    public async Task<double> CaptureAndDestroyAsync(CancellationToken cancellationToken)
    {
        var older = _options.Sabotage == Sabotages.OlderPoint ? await CaptureAloneAsync(_talkers[1], cancellationToken) : null;
        _points = _options.Sabotage == Sabotages.OneAfterTheOther
            ? [await CaptureAloneAsync(_talkers[0], cancellationToken), await CaptureAloneAsync(_talkers[1], cancellationToken)] : await CaptureTogetherAsync();
        foreach (var talker in _talkers)
        {
            await talker.DestroyAsync();
        }
        double longest = 0;
        foreach (var point in _points)
        {
            longest = Math.Max(longest, (await Site.RunAsync("recovery-point", "show", point)).Json.GetProperty("state").GetProperty("paused_ms").GetDouble());
        }
        _points[1] = older ?? _points[1];
        return longest;
    }

    private async Task<string[]> CaptureTogetherAsync()
    {
        var result = await Site.RunAsync("group", "backup", Group, "--with-state");
        if (result.ExitCode != 0)
        {
            throw new RefutedException($"the group was not backed up: {string.Join(" ", result.Errors)}");
        }
        var points = result.Json.GetProperty("result").GetProperty("group_backup").GetProperty("members").EnumerateArray()
            .ToDictionary(member => member.GetProperty("vm").GetString()!, member => member.GetProperty("point_id").GetString()!);
        return [.. _talkers.Select(talker => points[talker.Name])];
    }

    private async Task<string> CaptureAloneAsync(Talker talker, CancellationToken cancellationToken)
    {
        var point = (await Site.BackUpAsync(talker.Name, "--with-state")).GetProperty("point_id").GetString()!;
        await AwaitFurtherAsync(20, cancellationToken);
        return point;
    }

    public Task RestoreAsync() => Task.WhenAll(_talkers.Zip(_points).Select((pair, number) =>
        pair.First.RestoreAsync(Site, pair.Second, _options.Sabotage != Sabotages.BootAnew || number == 0)));

    /// <summary>Waits until both have counted so many messages more than they had at first sight, each without having missed one.</summary>
    /// <param name="before">What they had said before the cut: nothing of it may be lost.</param>
    /// <returns>How many they have.</returns>
    /// <exception cref="RefutedException">They have not.</exception>
    public async Task<long> RequireGoingOnAsync(IReadOnlyList<Told> before, int messages, CancellationToken cancellationToken)
    {
        var first = await LookAsync(cancellationToken);
        for (var i = 0; i < first.Count; i++)
        {
            if (first[i].Messages < before[i].Messages || first[i].UptimeSeconds < before[i].UptimeSeconds)
            {
                throw new RefutedException($"guest {i} had counted {before[i].Messages} messages in {before[i].UptimeSeconds:0} s, and after its restore {first[i].Messages} in {first[i].UptimeSeconds:0} s");
            }
        }
        var (last, moved) = (first, TimeProvider.System.GetTimestamp());
        while (last.Zip(first).Any(pair => pair.First.Messages < pair.Second.Messages + messages))
        {
            await Task.Delay(50, cancellationToken);
            var now = await LookAsync(cancellationToken);
            if (now[0].Messages > last[0].Messages)
            {
                moved = TimeProvider.System.GetTimestamp();
            }
            else if (TimeProvider.System.GetElapsedTime(moved) > Patience)
            {
                throw new RefutedException($"no message came for {Patience.TotalSeconds:0} s, {now[0].Messages - first[0].Messages} behind the restore; the guests had counted {now[0].Messages} and {now[1].Messages}");
            }
            last = now;
        }
        return last.Zip(first).Min(pair => pair.First.Messages - pair.Second.Messages);
    }

    private async Task AwaitFurtherAsync(int messages, CancellationToken cancellationToken)
    {
        var begun = (await _talkers[0].TellAsync(cancellationToken)).Messages;
        while ((await _talkers[0].TellAsync(cancellationToken)).Messages < begun + messages)
        {
            await Task.Delay(20, cancellationToken);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (_installation is not null)
        {
            await _installation.DisposeAsync();
        }
        foreach (var talker in _talkers)
        {
            await talker.DisposeAsync();
        }
    }
}
