using Azure.Storage.Blobs;
using Azure.Storage.Blobs.Models;
using VirtBackup.CloudStores.Requests;
using VirtBackup.Core;

namespace VirtBackup.CloudStores.Azure;

/// <summary>Azure's immutability policies of versions. It fails as the SDK does.</summary>
internal static class AzureRetention
{
    public static async Task<bool> RequireAsync(BlobContainerClient container, CancellationToken cancellationToken) =>
        (await container.GetPropertiesAsync(cancellationToken: cancellationToken)).Value.HasImmutableStorageWithVersioning
            ? true
            : throw new CloudRequestException(FailureKind.Final, $"the container '{container.Name}' was made without version-level immutability")
            {
                Reason = FaultReason.FailedPrecondition,
                Advice = "Take a container that has it, or remove lock= from the repository's address: then locks bind the controller alone.",
            };

    public static async Task<bool> RetainAsync(BlobClient blob, ProviderLock kind, DateTimeOffset until, CancellationToken cancellationToken)
    {
        // A policy may be put in place of a longer one, as long as that is not locked.
        if ((await blob.GetPropertiesAsync(cancellationToken: cancellationToken)).Value.ImmutabilityPolicy is { ExpiresOn: { } present } found && present >= until)
        {
            if (kind != ProviderLock.Compliance || found.PolicyMode == BlobImmutabilityPolicyMode.Locked)
            {
                return true;
            }
            until = present;
        }
        var policy = new BlobImmutabilityPolicy { ExpiresOn = until, PolicyMode = kind == ProviderLock.Compliance ? BlobImmutabilityPolicyMode.Locked : BlobImmutabilityPolicyMode.Unlocked };
        await blob.SetImmutabilityPolicyAsync(policy, cancellationToken: cancellationToken);
        return true;
    }

    public static async Task<DateTimeOffset?> FindAsync(BlobClient blob, CancellationToken cancellationToken) =>
        (await blob.GetPropertiesAsync(cancellationToken: cancellationToken)).Value.ImmutabilityPolicy?.ExpiresOn;
}
