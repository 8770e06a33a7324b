using System.Text.Json;
using System.Text.Json.Nodes;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;
using VirtBackup.Hypervisors.Libvirt.Native;
using VirtBackup.Hypervisors.Qemu;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>
/// How the writes of a machine's guest fare: by QEMU's histograms through libvirt's monitor passthrough, or, where that is not
/// wanted or not to be had, by libvirt's own counters, which tell the mean only.
/// </summary>
internal sealed class LibvirtWriteMeter : IGuestWriteMeter
{
    private readonly LibvirtConnection connection;
    private readonly Id16 machine;
    private readonly IReadOnlyList<string> targets;
    private readonly WriteAccount? account;

    private LibvirtWriteMeter(LibvirtConnection connection, Id16 machine, IReadOnlyList<string> targets, WriteAccount? account, string? shortcoming)
    {
        this.connection = connection;
        this.machine = machine;
        this.targets = targets;
        this.account = account;
        Shortcoming = shortcoming;
    }

    public string? Shortcoming { get; }

    /// <returns>Null: the machine is off, and nobody writes.</returns>
    public static async Task<LibvirtWriteMeter?> OpenAsync(LibvirtContext context, LibvirtConnection connection, Id16 machine, CancellationToken cancellationToken)
    {
        var view = await connection.QueryAsync(libvirt => Domains.Read(libvirt, machine), cancellationToken);
        if (!view.Active)
        {
            return null;
        }
        IReadOnlyList<string> targets = [.. view.Disks.Where(disk => disk.Captured).Select(disk => disk.Target)];
        if (!context.Options.MonitorCommands)
        {
            return new LibvirtWriteMeter(connection, machine, targets, null, "QEMU's monitor is not to be spoken to (monitor_commands: false)");
        }
        try
        {
            var paths = (view.Document.Root.Element("devices")?.Elements("disk") ?? []).Where(disk => targets.Contains(disk.Text("target", "dev") ?? ""))
                .Select(disk => $"/machine/peripheral/{disk.Text("alias", "name")}").ToList();
            bool IsWatched(string path) => paths.Exists(device => path == device || path.StartsWith(device + "/", StringComparison.Ordinal));
            var account = await WriteAccount.OpenAsync((command, arguments, token) => AskAsync(connection, machine, command, arguments, token), IsWatched, cancellationToken);
            return account.Devices == targets.Count
                ? new LibvirtWriteMeter(connection, machine, targets, account, account.HasHistogram ? null : GuestWrites.TakenHistograms)
                : new LibvirtWriteMeter(connection, machine, targets, null, "QEMU does not call its devices as libvirt does");
        }
        catch (FaultException fault)
        {
            return new LibvirtWriteMeter(connection, machine, targets, null, $"QEMU's monitor could not be asked ({fault.Message.TrimEnd('.')})");
        }
    }

    public async ValueTask<GuestWrites> ReadAsync(CancellationToken cancellationToken) =>
        account is not null ? await account.ReadAsync(AskAsync, cancellationToken) : await connection.QueryAsync(ReadCounters, cancellationToken);

    private GuestWrites ReadCounters(ConnectionHandle libvirt)
    {
        using var domain = Domains.Find(libvirt, machine);
        long operations = 0, total = 0;
        foreach (var target in targets)
        {
            var numbers = TypedNumbers.ReadBlockStats(domain, target);
            operations += numbers.GetValueOrDefault("wr_operations") + numbers.GetValueOrDefault("flush_operations");
            total += numbers.GetValueOrDefault("wr_total_times") + numbers.GetValueOrDefault("flush_total_times");
        }
        return new GuestWrites(operations, total, []);
    }

    private Task<JsonElement> AskAsync(string command, JsonObject? arguments, CancellationToken cancellationToken) =>
        AskAsync(connection, machine, command, arguments, cancellationToken);

    private static async Task<JsonElement> AskAsync(LibvirtConnection connection, Id16 machine, string command, JsonObject? arguments, CancellationToken cancellationToken)
    {
        var request = new JsonObject { ["execute"] = command };
        if (arguments is not null)
        {
            request["arguments"] = arguments;
        }
        var text = request.ToJsonString();
        var reply = await connection.QueryAsync(libvirt => Ask(libvirt, machine, text), cancellationToken);
        try
        {
            using var document = JsonDocument.Parse(reply);
            return document.RootElement.Find("return")?.Clone()
                ?? throw new FaultException(FaultReason.FailedPrecondition, $"QEMU refused '{command}': {document.RootElement.Find("error")?.FindText("desc") ?? "it gave no reason"}.");
        }
        catch (JsonException failure)
        {
            throw new FaultException(FaultReason.Malformed, $"QEMU's answer to '{command}' is not JSON.", failure);
        }
    }

    private static string Ask(ConnectionHandle libvirt, Id16 machine, string text)
    {
        try
        {
            using var domain = Domains.Find(libvirt, machine);
            LibvirtValues.Require(LibvirtQemuCalls.AskMonitor(domain, text, out var reply, 0));
            return LibvirtValues.TakeText(reply);
        }
        catch (Exception failure) when (failure is DllNotFoundException or EntryPointNotFoundException)
        {
            throw LibvirtQemuCalls.Missing(failure);
        }
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            await (account?.CloseAsync(AskAsync) ?? Task.CompletedTask);
        }
        catch (FaultException)
        {
            // The machine has ended, or libvirt does not answer.
        }
    }
}
