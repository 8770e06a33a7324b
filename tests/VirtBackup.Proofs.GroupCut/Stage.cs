using System.Text.Json;
using VirtBackup.Testing.Installations;
using VirtBackup.Testing.Lab;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.GroupCut;

/// <summary>Two guests that exchange messages, each on an agent of its own, and what is stored of them.</summary>
internal sealed class Stage : IAsyncDisposable
{
    /// <summary>So many cuts of the group to one of each guest by itself.</summary>
    public const int ControlEvery = 20;

    private const string Group = "pair";
    private readonly ProofOptions _options;
    private readonly Tally _tally;
    private Exchange? _exchange;
    private Installation? _installation;
    private int _restores;

    private Stage(ProofOptions options, Tally tally) => (_options, _tally) = (options, tally);

    private Installation Site => _installation!;

    private IReadOnlyList<LabVm> Guests => _exchange!.Guests;

    public static async Task<Stage> SetAsync(ProofOptions options, Tally tally, CancellationToken cancellationToken)
    {
        var stage = new Stage(options, tally);
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

    /// <summary>Cuts both guests at one instant, and looks for an effect without its cause.</summary>
    public async Task CutTogetherAsync(int trial, CancellationToken cancellationToken)
    {
        var random = _options.RandomOf(trial, 0);
        await Task.Delay(random.Next(400), cancellationToken);
        string[] options = random.Next(2) == 0 ? ["--no-quiesce"] : [];
        using var planted = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var meddling = _options.Sabotage == Sabotages.LetGoEarly ? LetGoEarlyAsync(planted.Token) : Task.CompletedTask;
        var result = await Site.RunAsync(["group", "backup", Group, .. options]);
        await planted.CancelAsync();
        await meddling.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (_options.Sabotage == Sabotages.LetGoEarly && result.ExitCode != 0 && !(meddling.IsCompletedSuccessfully && Says(result, NotHeld(Guests[0].Name))))
        {
            // It failed for something else than what was planted, which proves nothing.
            Console.WriteLine($"trial {trial}: {(meddling.IsCompletedSuccessfully ? "another failure" : "the guest was not let go")}: {string.Join(" ", result.Errors)}");
            return;
        }
        if (result.ExitCode != 0) throw new RefutedException($"the group was not backed up: {string.Join(" ", result.Errors)}") { Trial = trial };
        var point = result.Json.GetProperty("result").GetProperty("group_backup");
        var points = point.GetProperty("members").EnumerateArray().ToDictionary(member => member.GetProperty("vm").GetString()!, member => member.GetProperty("point_id").GetString()!);
        if (_options.Sabotage == Sabotages.LeaveOneOut) points[Exchange.Right] = PointOf(await Site.BackUpAsync(Exchange.Right));
        var (left, right) = await RestoreAsync(points, cancellationToken);
        var (skew, uncaused) = (point.GetProperty("skew_ms").GetDouble(), left.CountUncaused(right) + right.CountUncaused(left));
        Console.WriteLine($"trial {trial}: {string.Join(' ', options)} skew at most {skew:0.0} ms; left sent {left.Sent.Count} and received {left.Received.Count}, right {right.Sent.Count} and {right.Received.Count}; {uncaused} without a cause");
        if (uncaused > 0) throw new RefutedException($"{uncaused} messages were received that had not been sent, at a skew of at most {skew:0.0} ms") { Trial = trial };
        if (left.Received.Count == 0 || right.Received.Count == 0) throw new RefutedException("the guests have not exchanged messages") { Trial = trial };
        _tally.AddCut(skew, left, right);
    }

    /// <summary>The same without a group, one guest after the other, as schedules do it.</summary>
    public async Task CutApartAsync(CancellationToken cancellationToken)
    {
        var points = new Dictionary<string, string>();
        foreach (var guest in Guests) points[guest.Name] = PointOf(await Site.BackUpAsync(guest.Name));
        var (left, right) = await RestoreAsync(points, cancellationToken);
        var uncaused = left.CountUncaused(right) + right.CountUncaused(left);
        Console.WriteLine($"control, one guest after the other: {uncaused} without a cause");
        _tally.AddControl(uncaused);
    }

    public async ValueTask DisposeAsync()
    {
        if (_installation is not null) await _installation.DisposeAsync();
        if (_exchange is not null) await _exchange.DisposeAsync();
    }

    /// <summary>What the product says of a machine that went on before all were cut.</summary>
    private static string NotHeld(string guest) => $"{guest} is not known to have stood still while all were cut.";

    private static bool Says(CommandResult result, string sentence) => result.Errors.Any(error => error.Contains(sentence, StringComparison.Ordinal));

    private static string PointOf(JsonElement point) => point.GetProperty("point_id").GetString()!;

    private async Task SetAsync(CancellationToken cancellationToken)
    {
        var booting = Exchange.BootAsync(cancellationToken);
        try
        {
            _installation = await Installation.CreateAsync();
            await Site.Controller.StartAsync();
        }
        finally
        {
            await ((Task)booting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (booting.IsCompletedSuccessfully) _exchange = await booting;
        }
        _exchange = await booting;
        _tally.Begin();
        var random = _options.RandomOf(-1, 0);
        foreach (var guest in Guests)
        {
            var agent = await Site.EnrollAsync($"host-{guest.Name}");
            var hasAgent = random.Next(3) > 0;
            Console.WriteLine($"{guest.Name}: {(hasAgent ? "its file systems are frozen" : "has no guest agent, and is paused only")}");
            agent.Add(guest, hasAgent);
            await agent.Service.StartAsync();
        }
        foreach (var guest in Guests) await Site.WaitForMachineAsync(guest.Name);
        // What is proven does not depend on how busy the host is.
        (await Site.RunAsync(["group", "create", Group, "--skew-bound", "15000", .. Guests.Select(guest => guest.Name).Where(name => _options.Sabotage != Sabotages.LeaveOneOut || name == Exchange.Left)])).EnsureSuccess();
    }

    /// <summary>What the disks of both guests held.</summary>
    private async Task<(Records Left, Records Right)> RestoreAsync(Dictionary<string, string> points, CancellationToken cancellationToken)
    {
        var number = _restores++;
        var images = await Task.WhenAll(new[] { Exchange.Left, Exchange.Right }.Select(async guest =>
            (await Site.RestoreDisksAsync(points[guest], $"{guest}-{number}", "--disk", "disk-data", "--format", "raw")).Values.Single()));
        if (_options.Sabotage == Sabotages.PlantEffect)
        {
            await using var image = File.OpenWrite(images[1]);
            image.Seek(-Records.Bytes, SeekOrigin.End);
            await image.WriteAsync(Records.Of(Exchange.MarkOf(Exchange.Left), 999_999_999), cancellationToken);
        }
        var (left, right) = (Exchange.MarkOf(Exchange.Left), Exchange.MarkOf(Exchange.Right));
        var records = (await Records.ReadAsync(images[0], left, right, cancellationToken), await Records.ReadAsync(images[1], right, left, cancellationToken));
        foreach (var image in images) Directory.Delete(Path.GetDirectoryName(image)!, recursive: true);
        return records;
    }

    /// <summary>Lets the left guest go on as soon as it stands still.</summary>
    private async Task LetGoEarlyAsync(CancellationToken cancellationToken)
    {
        await Guests[0].WaitForEventAsync("STOP", TimeSpan.FromMinutes(1), cancellationToken);
        await Guests[0].QmpAsync("cont", cancellationToken: cancellationToken);
    }
}
