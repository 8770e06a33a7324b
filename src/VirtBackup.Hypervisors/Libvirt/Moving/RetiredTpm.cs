using VirtBackup.Core;
using VirtBackup.Hypervisors.Moving;

namespace VirtBackup.Hypervisors.Libvirt.Moving;

/// <summary>The state of an emulated TPM of a machine that libvirt forgets: libvirt deletes it with the machine, unless it is told otherwise.</summary>
internal static class RetiredTpm
{
    private const uint Forget = 32, Keep = 64; // VIR_DOMAIN_UNDEFINE_TPM, VIR_DOMAIN_UNDEFINE_KEEP_TPM
    private const ulong FlagsSince = 8_009_000;

    /// <summary>What is to be added to the flags by which a machine is undefined.</summary>
    /// <param name="version">Of the libvirt that has the machine, as it counts (8.9.0 is 8009000).</param>
    /// <param name="keeps">The state is needed again when the machine comes back.</param>
    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: this libvirt cannot keep it.</exception>
    public static uint ChooseFlags(DomainDocument document, ulong version, bool keeps)
    {
        if (DomainTpm.Find(document.Uuid, document.Root) is not { IsEmulated: true } tpm)
        {
            return 0;
        }
        if (version >= FlagsSince)
        {
            return keeps ? Keep : Forget;
        }
        return !keeps || tpm.OutlivesMachine ? 0U : throw new FaultException(FaultReason.Unsupported,
            $"The machine {document.Name} has an emulated TPM, and libvirt here is older than 8.9: undefining the machine would delete the TPM's state for good, and nothing could bring the machine back. "
            + "Update libvirt, or have it keep the state (persistent_state='yes' on the TPM's backend in the machine's definition).");
    }

    /// <summary>Deletes what was kept of a machine that is not to come back. A machine that is defined again has it.</summary>
    /// <returns>Folders that are gone.</returns>
    public static async Task<IReadOnlyList<string>> DeleteAsync(
        LibvirtContext context, IEnumerable<LibvirtConnection> connections, Id16 machine, RetiredRecord retired, CancellationToken cancellationToken)
    {
        var removed = new List<string>();
        if (retired.Definition is not { } definition || DomainTpm.Find(machine, BoundedXml.Parse(definition, "domain")) is not { IsEmulated: true } tpm)
        {
            return removed;
        }
        foreach (var connection in connections)
        {
            var isDefined = await connection.QueryAsync(libvirt =>
            {
                using var domain = Domains.TryFind(libvirt, machine);
                return domain is not null;
            }, cancellationToken);
            if (!isDefined && await tpm.FindFolderAsync(context, connection, machine, cancellationToken) is { } folder)
            {
                removed.AddRange(Delete(Path.GetDirectoryName(folder)!, retired.Name));
            }
        }
        return removed;
    }

    private static IReadOnlyList<string> Delete(string folder, string name)
    {
        try
        {
            return RetiredFiles.DeleteFolder(folder);
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
        {
            throw new FaultException(FaultReason.FailedPrecondition, $"The state of the TPM of {name} in {folder} cannot be deleted: {failure.Message}", failure);
        }
    }
}
