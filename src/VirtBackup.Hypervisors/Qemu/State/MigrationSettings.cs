using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>
/// The machine's own settings for migrations, which saving its state changes. They are kept in the capture's folder meanwhile, so that
/// whoever settles a capture that was killed can put them back: a later migration of the machine must not become a snapshot.
/// </summary>
internal sealed class MigrationSettings(string folder)
{
    private const string Bandwidth = "max-bandwidth";
    private const int BytesMax = 64 << 10;
    private static readonly TimeSpan CancelLimit = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan PollInterval = TimeSpan.FromMilliseconds(20);
    private static readonly HashSet<string> Under = ["setup", "active", "pre-switchover", "device", "wait-unplug", "cancelling", "postcopy-active", "postcopy-paused", "postcopy-recover"];

    // Not about how memory is sent.
    private static readonly HashSet<string> Kept = ["events"];

    private string PathOfMark => Path.Combine(folder, "migration.json");

    /// <summary>Whether a migration's status means that it goes on.</summary>
    public static bool IsUnderWay(string? status) => status is not null && Under.Contains(status);

    /// <summary>Remembers the settings and makes those that saving needs: everything off that changes the stream, and no limit.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.FailedPrecondition"/>: QEMU refuses them, with its reason.</exception>
    public async Task ApplyAsync(QmpClient qmp, bool live, CancellationToken cancellationToken)
    {
        var before = new JsonObject
        {
            ["capabilities"] = JsonNode.Parse((await qmp.ExecuteAsync("query-migrate-capabilities", null, cancellationToken)).GetRawText()),
            [Bandwidth] = (await qmp.ExecuteAsync("query-migrate-parameters", null, cancellationToken)).Number(Bandwidth),
        };
        DurableFile.WritePrivate(PathOfMark, Encoding.UTF8.GetBytes(before.ToJsonString()));
        var wanted = new JsonArray();
        foreach (var capability in before["capabilities"]!.AsArray())
        {
            if (JsonOption.Text(capability!["capability"]) is { } name && !Kept.Contains(name))
            {
                wanted.Add((JsonNode)new JsonObject { ["capability"] = name, ["state"] = live && name == "background-snapshot" });
            }
        }
        await qmp.ExecuteAsync("migrate-set-capabilities", new JsonObject { ["capabilities"] = wanted }, cancellationToken);
        await qmp.ExecuteAsync("migrate-set-parameters", new JsonObject { [Bandwidth] = 1L << 40 }, cancellationToken);
    }

    /// <summary>Ends saving that still goes on, and puts the settings back. Does nothing without the mark.</summary>
    public async Task RestoreAsync(QmpClient qmp, TimeProvider time, CancellationToken cancellationToken)
    {
        if (!File.Exists(PathOfMark))
        {
            return;
        }
        await CancelAsync(qmp, time, cancellationToken);
        try
        {
            await qmp.ExecuteAsync("closefd", new JsonObject { ["fdname"] = StateSave.FileName }, cancellationToken);
        }
        catch (FaultException fault) when (fault.Reason == FaultReason.FailedPrecondition)
        {
            // Saving has closed it.
        }
        if (Read() is { } before)
        {
            await qmp.ExecuteAsync("migrate-set-capabilities", new JsonObject { ["capabilities"] = before["capabilities"]!.DeepClone() }, cancellationToken);
            await qmp.ExecuteAsync("migrate-set-parameters", new JsonObject { [Bandwidth] = before[Bandwidth]!.DeepClone() }, cancellationToken);
        }
        File.Delete(PathOfMark);
    }

    /// <summary>The same while the guest may stand still for it. Does nothing without the mark.</summary>
    public async Task CancelAsync(QmpClient qmp, TimeProvider time, CancellationToken cancellationToken)
    {
        if (!File.Exists(PathOfMark))
        {
            return;
        }
        var asked = false;
        for (var started = time.GetTimestamp(); IsUnderWay((await qmp.ExecuteAsync("query-migrate", null, cancellationToken)).FindText("status"));)
        {
            if (!asked)
            {
                await qmp.ExecuteAsync("migrate_cancel", null, cancellationToken);
                asked = true;
            }
            if (time.GetElapsedTime(started) > CancelLimit)
            {
                throw new FaultException(FaultReason.HypervisorUnavailable, $"QEMU at {qmp.SocketPath} does not end the saving of its state.");
            }
            await Task.Delay(PollInterval, time, cancellationToken);
        }
    }

    private JsonObject? Read()
    {
        try
        {
            return new FileInfo(PathOfMark).Length <= BytesMax && JsonNode.Parse(File.ReadAllText(PathOfMark)) is JsonObject { } before
                && before["capabilities"] is JsonArray && before[Bandwidth] is JsonValue ? before : null;
        }
        catch (Exception failure) when (failure is IOException or JsonException)
        {
            return null; // cut short when the host went down: QEMU did so, too
        }
    }
}
